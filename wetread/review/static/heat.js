// The heat map as a picture: one scale for all, red for the label, blue against it.

const FOR = [216, 48, 39];
const AGAINST = [44, 105, 210];
const STRONGEST = 0.8;

/** Paint a map into a small canvas; it lies on `box` (top, left, height, width, as parts of the picture). */
export function paintHeat(heat) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [heat.width, heat.height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(heat.width, heat.height);
  heat.map.forEach((value, place) => {
    const color = value > 0 ? FOR : AGAINST;
    const strength = Math.min(Math.abs(value) / heat.scale, 1);
    image.data.set([...color, Math.round(255 * STRONGEST * strength)], 4 * place);
  });
  context.putImageData(image, 0, 0);
  return { canvas, box: heat.box };
}

/** Draw a map beside the picture: over a faint copy of it, on a canvas of its own. */
export function drawBeside(canvas, source, heat) {
  const scale = Math.min(1, 640 / Math.max(source.width, source.height));
  [canvas.width, canvas.height] = [Math.round(source.width * scale), Math.round(source.height * scale)];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "medium";
  context.filter = "grayscale(1) brightness(0.6)";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  context.filter = "none";
  if (!heat) return;
  const [top, left, height, width] = heat.box;
  context.drawImage(
    heat.canvas, left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height,
  );
}
