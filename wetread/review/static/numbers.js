// Numbers as people read them.

/** Four decimals, without zeros at the end. */
export function showNumber(value) {
  return String(Number(value.toFixed(4)));
}
