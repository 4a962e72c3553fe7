"""Archives that differ from the demo in one way each, drawn in a second: what people really bring."""
import csv
import hashlib
import random
from pathlib import Path

from PIL import Image, ImageDraw

COMMON = ("Drama", "Comedy", "Thriller", "Action", "Romance", "Horror", "Documentary", "Family")
RARE = ("Western", "War", "Music")
TITLES = ("A" * 500, "🎬 The Émigré 🎭", "\u200f\u05e9\u05dc\u05d5\u05dd \u202eolam\u202c", "مرحبا بالعالم", "<b>bold</b> & <i>more</i>", "$\\frac{1}{0}$ and _under_ *star*",
          "=HYPERLINK(\"http://example.org\")", "Tab\tand [link](file.png)", "100% {braces} %s", "`code` | pipe | # hash")


def in_part(number):
    "The place of a movie between 0 and 1, as the split computes it."
    return int(hashlib.sha1(f"tt{number:07}".encode()).hexdigest()[:8], 16) / 2**32


def numbers(count, low=0.0, high=1.0, start=1000):
    "Numbers of movies whose hash lies from `low` to `high`."
    found, number = [], start
    while len(found) < count:
        number += 7
        if low <= in_part(number) < high:
            found.append(number)
    return found


def poster(seed, size=(60, 90)):
    "A picture that looks like no other seed's."
    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        pen.ellipse([x, y, x + rng.randrange(8, 40), y + rng.randrange(8, 40)], fill=tuple(rng.randrange(256) for _ in range(3)))
    return image


def write(folder, movies, size=(60, 90), same=False, columns=("imdb_id", "title", "genres", "release_date")):
    "The archive of `movies`: (number, title, genres, year)."
    folder = Path(folder)
    (folder / "posters").mkdir(parents=True)
    with open(folder / "movies_metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for number, title, genres, year in movies:
            writer.writerow({"imdb_id": f"tt{number:07}", "title": title, "genres": str([{"id": 0, "name": name} for name in genres]),
                             "release_date": f"{year}-01-01" if year else ""})
            poster(0 if same else number, size).save(folder / "posters" / f"tt{number:07}.jpg", quality=90)
    return folder


def movies(ids, genres=COMMON, years=True, titles=None):
    "A movie for each number."
    rng = random.Random(len(ids))
    return [(number, titles[place % len(titles)] if titles else f"Movie {number}", rng.sample(genres, min(len(genres), rng.randint(1, 3))),
             1950 + place if years else None) for place, number in enumerate(ids)]


ODD = {  # some are odd in two ways that have nothing to do with each other
    "one movie": lambda folder: write(folder, movies(numbers(1, 0.3))),
    "four movies": lambda folder: write(folder, movies(numbers(4))),
    "one genre, landscape": lambda folder: write(folder, movies(numbers(40), ("Drama",)), size=(160, 60)),
    "three genres, no years": lambda folder: write(folder, movies(numbers(40), ("Drama", "Comedy", "Horror"), years=False), columns=("imdb_id", "title", "genres")),
    "400 genres": lambda folder: write(folder, movies(numbers(450), tuple(f"Genre {n}" for n in range(400)))),
    "one picture": lambda folder: write(folder, movies(numbers(40)), same=True),
    "no test part": lambda folder: write(folder, movies(numbers(40, 0.2))),
    "no validation part, odd titles": lambda folder: write(folder, movies(numbers(10, 0, 0.2) + numbers(30, 0.3), titles=TITLES)),
    "rare genres, long ids": lambda folder: write(folder, movies([*numbers(10), *numbers(10, start=12_345_678), *numbers(20, start=123_456_789)], RARE)),
}
