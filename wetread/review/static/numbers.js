// Numbers as people read them.

/** Four decimals, without zeros at the end. */
export function showNumber(value) {
  return String(Number(value.toFixed(4)));
}

/** A number and a limit, with as many decimals, four or more, as tell them apart. */
export function showApart(value, limit) {
  let digits = 4;
  while (digits < 9 && value !== limit && value.toFixed(digits) === limit.toFixed(digits)) digits++;
  return [value.toFixed(digits), String(Number(limit.toFixed(digits)))];
}
