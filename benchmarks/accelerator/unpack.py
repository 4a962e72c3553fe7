"""Decode packed JPEG files to pixels, as the package does: `python unpack.py PIECE.npz PIXELS.npy [WORKERS]`."""
import io
import os
import sys
from multiprocessing import Pool

import numpy as np
from PIL import Image, ImageChops, ImageOps

HEIGHT, WIDTH = 268, 182


def pixels(data):
    "The pixels of one poster, as the package decodes it."
    image = Image.open(io.BytesIO(data))
    image.draft(None, (2 * WIDTH, 2 * HEIGHT))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)
    return np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.HAMMING))


if __name__ == "__main__":
    piece, out, *workers = sys.argv[1:]
    with np.load(piece) as packed:
        data, ends = packed["data"].tobytes(), np.cumsum(packed["lengths"])
    files = [data[start:end] for start, end in zip([0, *ends[:-1]], ends)]
    with Pool(int(workers[0]) if workers else os.cpu_count()) as pool:
        images = np.stack(pool.map(pixels, files, 64))
    np.save(out + ".part.npy", images)
    os.replace(out + ".part.npy", out)
    print(piece, images.shape)
