// A heat map over a poster, as `poster_genres.lib.explanations.overlay` draws it: grey where nothing speaks for the genre, tinted where much does.

const INFERNO = [[0, 0, 4], [27, 12, 65], [74, 12, 107], [120, 28, 109], [165, 44, 96], [207, 68, 70], [237, 105, 37], [251, 155, 6], [247, 209, 61]];

function tint(share) {
  const at = Math.min(share, 1) * (INFERNO.length - 1), low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((from, channel) => from + (at - low) * (INFERNO[low + 1][channel] - from));
}

// The heat at a place of the poster (each from 0 to 1), between the cells bilinearly.
function sample({ rows, columns, heat }, down, across) {
  const y = Math.min(Math.max(down * rows - 0.5, 0), rows - 1), x = Math.min(Math.max(across * columns - 0.5, 0), columns - 1);
  const top = Math.floor(y), left = Math.floor(x), under = Math.min(top + 1, rows - 1), right = Math.min(left + 1, columns - 1);
  const row = at => heat[at * columns + left] * (1 - x + left) + heat[at * columns + right] * (x - left);
  return row(top) * (1 - y + top) + row(under) * (y - top);
}

// Draws the poster (an <img>) with the map into a canvas of the size at which the poster is seen.
export function overlay(canvas, image, where) {
  const width = canvas.width = Math.max(1, Math.round(image.clientWidth * Math.min(devicePixelRatio, 2)));
  const height = canvas.height = Math.max(1, Math.round(width * image.naturalHeight / image.naturalWidth));
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "white";
  brush.fillRect(0, 0, width, height);
  brush.drawImage(image, 0, 0, width, height);
  const picture = brush.getImageData(0, 0, width, height), { data } = picture;
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at += 4) {
    const share = sample(where, (y + 0.5) / height, (x + 0.5) / width), colour = tint(share * 0.9), grey = (data[at] + data[at + 1] + data[at + 2]) / 6;
    for (let channel = 0; channel < 3; channel++) data[at + channel] = grey + share * (0.6 * colour[channel] + 0.4 * data[at + channel] - grey);
  }
  brush.putImageData(picture, 0, 0);
}
