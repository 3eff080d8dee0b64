// Copies of a picture at a half, a quarter, ... of its sides: means of its samples, before any window.
// What is shown small is windowed small, in a few milliseconds.

const MOST = 5;

/** The copy that is as small as it may be at a scale, still one sample for each pixel of the screen or more. */
export function findHalf(picture, scale) {
  let steps = 0;
  while (steps < MOST && scale * 2 ** (steps + 1) <= 1) steps++;
  return getHalf(picture, steps);
}

/** The picture halved so many times; made once. */
export function getHalf(picture, steps) {
  picture.halves ??= [picture];
  while (picture.halves.length <= steps) {
    const last = picture.halves.at(-1);
    if (last.width < 2 || last.height < 2) return last;
    picture.halves.push(halve(last));
  }
  return picture.halves[steps];
}

function halve({ samples, width, height, channels }) {
  const [w, h] = [width >> 1, height >> 1];
  const small = new samples.constructor(w * h * channels);
  const row = width * channels;
  let at = 0;
  for (let y = 0; y < h; y++) {
    let from = 2 * y * row;
    if (channels === 1) { // half the time of the loop below
      for (const end = from + 2 * w; from < end; from += 2) {
        small[at++] = (samples[from] + samples[from + 1] + samples[from + row] + samples[from + row + 1] + 2) >> 2;
      }
      continue;
    }
    for (let x = 0; x < w; x++, from += channels) {
      for (let channel = 0; channel < channels; channel++, from++) {
        const below = from + row;
        small[at++] = (samples[from] + samples[from + channels] + samples[below] + samples[below + channels] + 2) >> 2;
      }
    }
  }
  return { samples: small, width: w, height: h, channels };
}
