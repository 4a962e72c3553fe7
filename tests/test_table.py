"""From catalogue to sample: nothing vanishes, nothing leaks, and the real catalogues give the known counts."""
import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from poster_genres.lib.archives import open_archive, scan_posters

from poster_genres.lib.catalogue import count_reasons, read_catalogue

from poster_genres.lib.genres import GENRES, MAPPINGS
from poster_genres.lib.runs import TABLES, InputError, read_table, write_table
from poster_genres.lib.images import verify
from poster_genres.manipulation import PARTS, PHASH_DISTANCE, Wanted, balanced, clean, manipulate, near_duplicates, part_of
from poster_genres.original_order import original_sample, oversample
from poster_genres.demo.server import index_archive

PACKAGE = Path(__file__).parent.parent / "poster_genres"
set_hypothesis_home_dir(tempfile.gettempdir())
quickly = settings(max_examples=40, deadline=None, database=None)

# ---- catalogues ----

names = st.lists(st.sampled_from([*GENRES, "Sci-Fi", "Film-Noir", "TV Movie"]), max_size=3, unique=True)
titles = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(str.strip).filter(bool)
movies = st.lists(st.tuples(st.integers(1, 9_999_999), titles, names), min_size=1, max_size=12, unique_by=lambda movie: movie[0])
NOTATIONS = {"python": lambda found: str([{"id": 1, "name": name} for name in found]), "json": lambda found: json.dumps([{"id": None, "name": name} for name in found]),
             "names": json.dumps, "bars": "|".join, "bars after": lambda found: "".join(f"{name}|" for name in found)}
IDS = {"plain": str, "tt": "tt{}".format, "seven": "{:07}".format, "tt and seven": "tt{:07}".format, "number": "{}.0".format}


@quickly
@given(movies, st.permutations(["imdb_id", "title", "genres", "overview"]), st.sampled_from(",\t;"), st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]),
       st.sampled_from(sorted(NOTATIONS)), st.sampled_from(sorted(IDS)))
def test_every_dialect_reads_the_same(movies, columns, separator, encoding, notation, spelling):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=separator)
    writer.writeheader()
    for number, title, found in movies:
        writer.writerow({"imdb_id": IDS[spelling](number), "title": title, "genres": NOTATIONS[notation](found), "overview": "a, b\tc; d"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.csv")
        path.write_bytes(text.getvalue().encode(encoding))
        table = read_catalogue(path)
        Path(folder, "posters").mkdir()
        Path(folder, "posters", "tt12345678.jpg").touch()
        served = index_archive(folder, path).films
    assert list(table.imdb_id) == list(served), "the server that stands in for the web knows the movies that step 1 asks it for"
    assert list(table.imdb_id) == [f"tt{number:07}" for number, _, _ in movies]
    assert list(table.genres) == [found for _, _, found in movies]
    assert list(table.reason.isna()) == [bool(found) for _, _, found in movies]


@quickly
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"tt1,A,Drama", b'tt2,"A', b"0,A,War", b",B,War", b"tt1,C,[]", b'tt3,"D",Drama"'])), max_size=15))
def test_any_bytes_are_listed_or_refused(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.csv")
        path.write_bytes(b"\n".join([b"imdb_id,title,genres", *lines]))
        try:
            table = read_catalogue(path)
        except InputError:
            return
    used = table[table.reason.isna()]
    assert list(table.row) == list(range(len(table))) and used.imdb_id.is_unique and used.imdb_id.notna().all() and (used.genres.str.len() > 0).all()


def test_nothing_is_evaluated():
    for path in PACKAGE.rglob("*.py"):
        calls = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert not calls & {"eval", "exec"}, path.name


ROWS = [("tt0040321", "The Paper Moon", ["Drama", "Music"], 1994), ("tt0040322", "Café \"Noir\"", ["Crime"], None), ("tt123456789", "Late, Later", ["Science Fiction"], 2020)]


def table_of(columns, separator=",", quoting=csv.QUOTE_MINIMAL, **words):
    "The rows above as text: `columns` maps a column's name to what it holds of a movie."
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n", **words)
    writer.writerow(columns)
    writer.writerows([cell(*row) for cell in columns.values()] for row in ROWS)
    return text.getvalue()


def number(imdb_id):
    return imdb_id.removeprefix("tt").lstrip("0")


tmdb_objects = lambda i, t, g, y: json.dumps([{"id": 1, "name": name} for name in g])
usual = {"imdb_id": lambda i, t, g, y: i, "title": lambda i, t, g, y: t, "genres": lambda i, t, g, y: "|".join(g), "year": lambda i, t, g, y: y or ""}
python_objects = usual | {"genres": lambda i, t, g, y: str([{"id": 1, "name": name} for name in g])}
# every layout that the guide names, with how it is written
LAYOUTS = {
    "The Movies Dataset (movies_metadata.csv)": lambda: table_of({"adult": lambda *_: "False", **python_objects, "id": lambda *_: 862, "poster_path": lambda *_: "/a.jpg"}),
    "MovieGenre.csv": lambda: table_of({"imdbId": lambda i, *_: number(i), "Title": lambda i, t, g, y: f"{t} ({y})" if y else t, "Genre": lambda i, t, g, y: "|".join(g),
                                        "Poster": lambda *_: "https://m.media-amazon.com/images/M/a.jpg"}).encode("cp1252"),
    "IMDb title.basics.tsv": lambda: table_of({"tconst": lambda i, *_: i, "titleType": lambda *_: "movie", "primaryTitle": lambda i, t, g, y: t, "originalTitle": lambda *_: "x",
                                               "startYear": lambda i, t, g, y: y or "\\N", "genres": lambda i, t, g, y: ",".join(g)}, "\t", csv.QUOTE_NONE, quotechar=None),
    "TMDB's million rows": lambda: table_of({"id": lambda *_: 862, "title": usual["title"], "release_date": lambda i, t, g, y: f"{y}-05-01" if y else "", "imdb_id": usual["imdb_id"],
                                             "poster_path": lambda *_: "/a.jpg", "genres": lambda i, t, g, y: ", ".join(g)}),
    "MovieLens with links": lambda: table_of({"movieId": lambda *_: 1, "title": lambda i, t, g, y: f"{t} ({y})" if y else t, "genres": usual["genres"], "imdbId": lambda i, *_: number(i), "tmdbId": lambda *_: 862}),
    "OMDb": lambda: table_of({"Title": usual["title"], "Year": usual["year"], "Genre": lambda i, t, g, y: ", ".join(g), "Poster": lambda *_: "N/A", "imdbID": usual["imdb_id"]}),
    "MM-IMDb and other JSON": lambda: json.dumps([{"imdb_id": i, "title": t, "genres": g, "year": y} for i, t, g, y in ROWS]),
    "JSON by id": lambda: json.dumps({i: {"title": t, "genres": g, "year": y} for i, t, g, y in ROWS}),
    "JSON by column": lambda: pd.DataFrame(ROWS, columns=["imdb_id", "title", "genres", "year"]).astype(object).to_json(),
    "JSON lines": lambda: "\n".join(json.dumps({"id": i, "name": t, "genres": [{"name": name} for name in g], "year": y}) for i, t, g, y in ROWS),
    "one column a genre": lambda: table_of({"Id": usual["imdb_id"], "title": usual["title"], "year": usual["year"], **{name: lambda i, t, g, y, name=name: int(name in g) for name in GENRES}}),
    "numpy's lists": lambda: table_of(usual | {"genres": lambda i, t, g, y: str(np.array(g))}),
    "TMDB's numbers": lambda: table_of(usual | {"genre_ids": lambda i, t, g, y: [{"Drama": 18, "Music": 10402, "Crime": 80, "Science Fiction": 878}[name] for name in g], "genres": lambda *_: ""}),
    "other capitals, links as ids": lambda: table_of({"IMDB_ID": lambda i, *_: f"https://www.imdb.com/title/{i}/", "TITLE": usual["title"], "Genres": lambda i, t, g, y: "/".join(g).lower(), "Year": usual["year"]}),
    "semicolons, sep= before": lambda: "sep=;\n" + table_of(usual, ";"),
    "bars": lambda: table_of(usual | {"genres": lambda i, t, g, y: ", ".join(g)}, "|"),
    "a remark before, the header twice": lambda: "# exported\n\n" + table_of(usual) + table_of(usual).splitlines()[0] + "\n",
    "backslash before quotes": lambda: table_of(usual, doublequote=False, escapechar="\\", quoting=csv.QUOTE_NONNUMERIC),
    "UTF-16": lambda: table_of(usual, "\t").encode("utf-16"),
    "gzip": lambda: gzip.compress(table_of(usual).encode()),
    "TMDB's answer": lambda: json.dumps({"page": 1, "results": [{"imdb_id": i, "title": t, "genres": [{"label": name} for name in g], "year": y} for i, t, g, y in ROWS]}),
    "pandas's parts": lambda: pd.DataFrame(ROWS, columns=["imdb_id", "title", "genres", "year"]).astype(object).to_json(orient="split"),
    "PostgreSQL's lists": lambda: table_of(usual | {"genres": lambda i, t, g, y: f"{{{','.join(g)}}}"}),
    "a blank before quotation marks": lambda: "imdb_id, title, genres, year\n" + "".join(
        ", ".join([i, *('"{}"'.format(cell.replace('"', '""')) for cell in (t, ", ".join(g))), str(y or "")]) + "\n" for i, t, g, y in ROWS),
    "genre1 and genre2": lambda: table_of({"imdb_id": usual["imdb_id"], "title": usual["title"], "year": usual["year"], "genre1": lambda i, t, g, y: g[0], "genre2": lambda i, t, g, y: "".join(g[1:])}),
    "genre_Drama and so on": lambda: table_of({"imdb_id": usual["imdb_id"], "title": usual["title"], "year": usual["year"], **{f"genre_{name}": lambda i, t, g, y, name=name: name in g for name in GENRES}}),
    "links with a query": lambda: table_of(usual | {"imdb_id": lambda i, *_: f"www.imdb.com/title/{i}?ref_=x"}),
    "ids as Excel's text": lambda: table_of(usual | {"imdb_id": lambda i, *_: f'="{i}"'}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_read(tmp_path, name):
    data = LAYOUTS[name]()
    (tmp_path / "any").write_bytes(data if isinstance(data, bytes) else data.encode())
    table = read_catalogue(tmp_path / "any")
    used, understood = table[table.reason.isna()], table.attrs["understood"]
    assert list(used.imdb_id) == [row[0] for row in ROWS] and list(used.title) == [row[1] for row in ROWS], understood
    assert [sorted({"Sci-Fi": "Science Fiction"}.get(name, name) for name in names) for names in used.genres] == [sorted(row[2]) for row in ROWS]
    assert [None if pd.isna(year) else int(year) for year in used.year] == [row[3] for row in ROWS]
    assert understood.kind == "imdb" and len(understood.lines()) == 2 and understood.rows - understood.used == ("twice" in name)


def test_original_titles_and_told_columns_of_any_format(tmp_path):
    rows = pd.DataFrame([["tt0040321", "The Paper Moon", "La luna de papel", "Drama"], ["tt0040322", "Harbour", None, "War"]], columns=["nr", "name", "native", "kind"])
    rows.to_parquet(tmp_path / "any.parquet"), rows.to_csv(tmp_path / "any.csv"), rows.to_json(tmp_path / "any.json", orient="records")
    for path in tmp_path.iterdir():
        table = read_catalogue(path, "id=nr,genres=kind,title=name,original_title=native")
        assert list(table.title) == ["The Paper Moon", "Harbour"] and list(table.original_title) == ["La luna de papel", None], path.name
        with pytest.raises(InputError, match="no column for genres among .*native.*--columns id="):
            read_catalogue(path)


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_what_unpacks_without_end_is_refused(tmp_path, packed):
    (tmp_path / "any").write_bytes(packed(b"imdb_id,title,genres\n" + b"x" * 70_000_000))
    with pytest.raises(InputError, match="any unpacks to more than a hundred times its size"):
        read_catalogue(tmp_path / "any")


def test_a_parquet_file_that_unpacks_without_end_is_refused(tmp_path):
    pd.DataFrame({"imdb_id": "tt0000001", "title": "x" * 400, "genres": "War"}, index=range(300_000)).to_parquet(tmp_path / "any")
    with pytest.raises(InputError, match="any unpacks to more than a hundred times its size"):
        read_catalogue(tmp_path / "any")


def test_posters_tell_which_ids_they_carry(tmp_path):
    "A table with IMDb's and TMDB's ids: the posters' names decide, and what is not used has a reason."
    (tmp_path / "any.csv").write_text("id,imdb_id,title,genres\n" + "".join(f"{n},tt{n + 7000:07},A,War\n" for n in range(862, 872)))
    (tmp_path / "posters").mkdir()
    for name in ("862.jpg", "863.png", "864.jpg", "1.jpg", "864 (1).jpg", "notes.txt"):
        (tmp_path / "posters" / name).touch()
    found = open_archive(tmp_path)
    assert found.movies.attrs["understood"].kind == "number" and set(found.posters) == {"862", "863", "864", "1"}
    assert {path.name: reason for path, reason in found.unused} == {"1.jpg": "no row of the catalogue has its id", "864 (1).jpg": "of the same movie: 864.jpg",
                                                                   "notes.txt": "has no ending of an image"}
    assert "3 of 10 movies have a poster in the archive; without one is 865" in found.lines() and "'notes.txt' (has no ending of an image)" in found.lines()[-1]


def test_zip_and_parquet_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "any", "w") as packed:
        packed.writestr("__MACOSX/x", "x" * 10_000)
        packed.writestr("folder/movies.csv", table_of(usual))
    pd.DataFrame(ROWS, columns=["tconst", "title", "genres", "year"]).to_parquet(tmp_path / "other")
    for name in ("any", "other"):
        table = read_catalogue(tmp_path / name)
        assert list(table.imdb_id) == [row[0] for row in ROWS] and list(table.genres) == [row[2] for row in ROWS] and table.reason.isna().all()


@pytest.mark.parametrize("columns, kind, ids", [("id,title,genres", "number", ["862", "863"]), ("filename,title,genre", "name", ["moon-1", "b_2"]), ("Nr,name,kind", "number", ["862", "863"])])
def test_ids_of_other_kinds(tmp_path, columns, kind, ids):
    written = {"number": ["862", "863.0"], "name": ["moon-1.jpg", "b_2.PNG"]}[kind]
    (tmp_path / "any.csv").write_text(f"{columns}\n{written[0]},A,Drama\n{written[1]},B,War\n../x,C,War\n")
    table = read_catalogue(tmp_path / "any.csv", "id=nr,genres=kind" if "kind" in columns else "")
    assert table.attrs["understood"].kind == kind and list(table.imdb_id[:2]) == ids and table.reason[2].startswith("malformed: id is '../x'")
    (tmp_path / "images").mkdir()
    for name in ("862.jpg", "moon-1.JPG", "tt0000863.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert set(scan_posters(tmp_path, kind=kind)[0]) & set(ids) == {ids[0]}, "kinds do not mix"


@pytest.mark.parametrize("columns, expected", [("title=nope", "--columns says title=nope, and there is no such column among 'imdb_id, title, genres'"), ("genres=title,genres=genres", "each role once")])
def test_told_columns_have_to_be_there(tmp_path, columns, expected):
    (tmp_path / "any.csv").write_text("imdb_id,title,genres\ntt0000001,A,War\n")
    with pytest.raises(InputError, match=expected):
        read_catalogue(tmp_path / "any.csv", columns)


def test_cells_that_cannot_be_right_are_rejected(tmp_path):
    "Digits that a spreadsheet has cut are no other movie's id, objects without a name no genre, and tags no genres where there is a column of these."
    (tmp_path / "any.csv").write_text("imdb_id,genres,tags\n1.11E+05,War,\n4.0321E+04,War,\n3,\"[{'weight': 3}, 4]\",\n4,,prison\n")
    table = read_catalogue(tmp_path / "any.csv")
    assert list(table.reason.isna()) == [False, True, False, False] and "cut its digits" in table.reason[0] and table.imdb_id[1] == "tt0040321" and table.reason[3] == "no genre"


def test_numbers_and_parts_of_any_size_are_listed_or_refused(tmp_path):
    "A number of 400 digits is no genre; data in pandas's parts that hold no rows are no table."
    (tmp_path / "any.json").write_text('[{"imdb_id": "tt0000001", "genres": [' + "9" * 400 + ']}, {"imdb_id": "tt0000002", "genres": [18.0, "80.0"]}]')
    table = read_catalogue(tmp_path / "any.json")
    assert "none of TMDB's" in table.reason[0] and list(table.genres[1]) == ["Drama", "Crime"]
    (tmp_path / "any.json").write_text('{"columns": ["imdb_id", ["genres"]], "data": [1, [2]]}')
    with pytest.raises(InputError):
        read_catalogue(tmp_path / "any.json")


def test_paths_of_images_are_ids_by_their_names(tmp_path):
    (tmp_path / "any.csv").write_text("file_name,genres\nposters/moon.jpg,Drama\n./posters/moon_poster.jpg,War\nposters\\star-cover.png,Crime\n")
    for name in ("posters/moon_poster.jpg", "posters/star-cover.png", "covers/moon.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = open_archive(tmp_path)
    assert {name: path.name for name, path in found.posters.items()} == {"moon_poster": "moon_poster.jpg", "star-cover": "star-cover.png"}
    assert list(found.movies.imdb_id) == ["moon", "moon_poster", "star-cover"] and [(path.name, why) for path, why in found.unused] == [("moon.jpg", "lies outside posters/")]


def test_folders_of_genres_lose_no_file(tmp_path):
    files = {"train/Horror/1.jpg": b"a", "test/Horror/1.jpg": b"b", "test/Horror/2.jpg": b"b", "Comedy/1980s/é.jpg": b"c", "Comedy/ü.jpg": b"d", "War/x.jpg": b"c", "1999/y.jpg": b"e", "z.jpg": b"f"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = open_archive(tmp_path)
    assert sorted(map(tuple, found.movies.genres)) == [("Comedy",), ("Comedy", "War"), ("Horror",), ("Horror",)] and len(found.posters) == 4
    assert {path.name: why.split(":")[0] for path, why in found.unused} == {"2.jpg": "of the same movie", "y.jpg": "lies in no folder of a genre", "z.jpg": "lies in no folder of a genre"}


lone = st.sampled_from(['"', '"A', 'A"', '"A" B', 'A, B', '"A, B"', '""', "A", 'plot "told" again'])


@quickly
@given(st.lists(st.tuples(st.integers(1, 9_999_999), lone, st.sampled_from(["Drama", "War|Drama", ""])), min_size=1, max_size=12, unique_by=lambda row: row[0]), st.sampled_from(",\t;|"))
def test_no_row_is_swallowed(rows, mark):
    "Rows as careless programs write them, without any quoting: each id is used, or its line is rejected with a reason."
    lines = [f"tt{number:07}{mark}{title}{mark}{genres}" for number, title, genres in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.csv")
        path.write_text("\n".join([mark.join(["imdb_id", "title", "genres"]), *lines]))
        table = read_catalogue(path)
    known = set(table.imdb_id.dropna())
    assert list(table.row) == list(range(len(table))) and len(table) >= len(rows)
    for imdb_id in {f"tt{number:07}" for number, _, _ in rows} - known:
        assert table.reason.fillna("").str.startswith("malformed").sum() >= len({f"tt{number:07}" for number, _, _ in rows} - known), imdb_id


@quickly
@given(st.lists(st.sampled_from(["posters/{}.jpg", "posters/{}.JPEG", "posters/a/b/{}.png", "posters/{} (1).webp", "posters/Movie {{imdb-{}}}.jpg"]), min_size=1, max_size=8))
def test_every_file_is_a_poster_or_has_a_reason(patterns):
    with tempfile.TemporaryDirectory() as folder:
        for number, pattern in enumerate(patterns, 1):
            path = Path(folder, pattern.format(f"tt{number:07}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        Path(folder, "posters", "odd.txt").touch()
        found, unused = scan_posters(folder)
        assert set(found) == {f"tt{number:07}" for number in range(1, len(patterns) + 1)}
        assert len(found) + len(unused) == sum(path.is_file() for path in Path(folder).rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the largest memory is read from /proc")
def test_a_million_rows_fit_in_memory(tmp_path):
    "Measured by VmHWM: what getrusage says of a new process includes the memory of the one that started it."
    with open(tmp_path / "any.csv", "w") as file:
        file.write("imdb_id,title,genres,overview,poster_path,release_date\n")
        file.writelines(f'tt{number:07},A Movie {number},"Drama, War","{"plot " * 40}",/poster{number}.jpg,1990-01-01\n' for number in range(1, 1_000_001))
    script = ("import sys; from poster_genres.lib.catalogue import read_catalogue; print(len(read_catalogue(sys.argv[1])), "
              "next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    rows, memory = map(int, subprocess.run([sys.executable, "-c", script, tmp_path / "any.csv"], capture_output=True, text=True, check=True).stdout.split())
    assert rows == 1_000_000 and memory < 1_000_000, f"{memory} kB"


# ---- the split ----

hashes = st.integers(0, 2**64 - 1)
flips = st.lists(st.integers(0, 63), max_size=9)


@st.composite
def tables(draw):
    "Movies whose pictures are few, so that many are the same, nearly the same, or linked by a third one."
    ids = draw(st.lists(st.integers(1, 99_999_999), min_size=3, max_size=40, unique=True))
    pictures = draw(st.lists(hashes, min_size=1, max_size=8))
    rows = []
    for number in ids:
        picture = draw(st.sampled_from(pictures))
        for bit in draw(flips):
            picture ^= 1 << bit
        rows.append({"imdb_id": f"tt{number:07}", "sha256": draw(st.sampled_from(["a", "b", f"{number:x}", f"{number:x}"])),
                     "phash": f"{picture:016x}", "genres": draw(st.lists(st.sampled_from(GENRES[:5]), min_size=1, max_size=3, unique=True))})
    return pd.DataFrame(rows)


@quickly
@given(tables(), st.sampled_from(["none", "repeat", "weights"]), st.floats(0, 0.6), st.floats(0, 0.3), st.integers(0, 2**32 - 1), st.randoms())
def test_no_picture_and_no_movie_on_two_sides(table, balance, test_share, validation_share, seed, random):
    split = balanced(table.assign(group=near_duplicates(table)), balance, 0.5, 4, test_share, validation_share, seed)
    assert split.imdb_id.is_unique
    bits = np.array([int(value, 16) for value in table.phash], np.uint64)
    same = (np.bitwise_count(bits[:, None] ^ bits[None]) <= PHASH_DISTANCE) | (table.sha256.to_numpy()[:, None] == table.sha256.to_numpy()[None])
    one, other = np.nonzero(same)
    assert (split.part.to_numpy()[one] == split.part.to_numpy()[other]).all()
    outside = split.part != "train"
    assert (split.repeats[outside] == 1).all() and (split.weight[outside] == 1).all()
    order = random.sample(range(len(table)), len(table))
    mixed = table.iloc[order].reset_index(drop=True)
    again = balanced(mixed.assign(group=near_duplicates(mixed)), balance, 0.5, 4, test_share, validation_share, seed)
    assert dict(zip(again.imdb_id, again.part)) == dict(zip(split.imdb_id, split.part))


@quickly
@given(tables(), st.integers(1, 3))
def test_a_movie_moves_only_with_its_group(table, fewer):
    before = table.assign(group=near_duplicates(table))
    rest = table.iloc[fewer:].reset_index(drop=True)
    after = rest.assign(group=near_duplicates(rest))
    alone = before.group.groupby(before.group).transform("size") == 1
    stays = after[after.imdb_id.isin(before.imdb_id[alone])]
    assert (stays.imdb_id == stays.group).all(), "a movie whose picture is its own keeps its part, whoever comes or goes"


@quickly
@given(tables(), st.integers(0, 2**32 - 1))
def test_what_the_original_never_saw(table, seed):
    table = table.assign(group=near_duplicates(table))
    sample = original_sample(table, 0.3, 20, 5, seed)
    seen = set(sample.group[sample.part.isin(["train", "validation"])])
    assert not seen & set(sample.group[sample.part == "unseen"])
    assert original_sample(table, 0.3, 20, 5, seed).equals(sample)


# ---- the step ----

def made_up_run(folder, count=300, seed=0):
    "A run folder after two steps, with every kind of row."
    chance = np.random.default_rng(seed)
    status = chance.choice(["found", "rejected", "left out", "failed"], count, p=[0.85, 0.05, 0.05, 0.05])
    movies = pd.DataFrame({"row": range(count), "imdb_id": [f"tt{number:07}" for number in range(1, count + 1)], "title": "A Movie", "year": 1990,
                           "genres": [list(chance.choice([*GENRES, "Sci-Fi", "Short", "TV Movie"], chance.integers(1, 4), replace=False)) for _ in range(count)],
                           "status": status, "reason": np.where(status == "found", None, "no id")}).reindex(columns=TABLES["movies"].names)
    posters = movies[["imdb_id"]].assign(path="a.jpg", sha256=[f"{row:064x}" for row in range(count)], status=chance.choice(["ok", "failed"], count, p=[0.95, 0.05]),
                                         phash=[f"{value:016x}" for value in chance.integers(0, 2**63, count)]).reindex(columns=TABLES["posters"].names)
    write_table(movies.astype({"genres": object}), folder / "movies.parquet")
    write_table(posters[status == "found"], folder / "posters.parquet")
    (folder / "run.json").write_text('{"steps": {}}')
    return movies


@pytest.mark.parametrize("balance", ["none", "repeat", "weights"])
def test_every_row_is_in_the_sample_or_excluded(tmp_path, balance):
    movies = made_up_run(tmp_path)
    done = manipulate(tmp_path, balance=balance)
    excluded, sample = read_table(tmp_path / "exclusions.parquet"), read_table(tmp_path / "sample.parquet")
    assert list(excluded.row) == list(movies.row)
    assert set(excluded.imdb_id[excluded.stage.isna()]) == set(sample.imdb_id) and len(sample) == done["out"]
    assert excluded.stage.notna().sum() + len(sample) == len(movies)
    assert not {name for genres in sample.genres for name in genres} - set(GENRES)


@pytest.mark.parametrize("balance", ["repeat", "weights", "original"])
def test_same_seed_same_rows(tmp_path, balance):
    made_up_run(tmp_path)
    samples = {}
    for seed in (0, 1, 0):
        manipulate(tmp_path, balance=balance, balance_share=1.0, seed=seed)
        samples.setdefault(seed, []).append((tmp_path / "sample.parquet").read_bytes())
    assert samples[0][0] == samples[0][1]
    assert (samples[0][0] == samples[1][0]) == (balance == "weights"), "weights know no chance"


# ---- the real catalogues ----

def archive_tables(folder, catalogue):
    "What steps 1 and 2 would hand on for the archive's own posters; pictures are not opened, so each is like no other."
    have = {path.stem for path in (folder / "posters").iterdir()}
    movies = read_catalogue(folder / catalogue)
    movies["status"] = np.where(movies.reason.notna(), "rejected", np.where(movies.imdb_id.isin(have), "found", "left out"))
    posters = pd.DataFrame({"imdb_id": sorted(have), "path": [f"posters/{name}.jpg" for name in sorted(have)], "sha256": None, "phash": None, "status": "ok"})
    return movies, posters


def test_real_movies_metadata(poster_archive):
    movies, posters = archive_tables(poster_archive, "movies_metadata.csv")
    assert count_reasons(movies.reason) == {"no genre": 2437, "repeated id": 30, "no id": 17, "malformed": 3} and len(movies) == 45_466
    assert list(movies.row[movies.reason.fillna("").str.startswith("malformed")]) == [19_730, 29_503, 35_587]
    table, excluded = clean(movies, posters)
    counts = table.genres.explode().value_counts()
    assert len(table) == 9_552 == excluded.stage.isna().sum() and len(counts) == 18
    assert (counts["Drama"], counts["Music"], counts["Western"]) == (4306, 364, 110), "counted whole: Music is not in Musical"
    parts = [part_of(imdb_id) for imdb_id in table.imdb_id]
    assert [parts.count(part) for part in PARTS] == [6749, 895, 1908]
    assert [len(oversample(table, 0.2, seed)) for seed in (0, 1, 2)] == [8031, 8676, 8692]


def test_real_movie_genre(poster_archive):
    movies, posters = archive_tables(poster_archive, "MovieGenre.csv")
    assert (movies.status == "found").sum() == 9_603, "397 of the posters are of movies that this catalogue does not know"
    table, excluded = clean(movies, posters)
    gone = excluded[movies.status == "found"].dropna(subset="stage")
    assert len(table) == 9_600 and table.genres.explode().nunique() == 18
    assert gone.value_counts().to_dict() == {("genre left out", "only Short"): 2, ("genre left out", "only Sport"): 1}
    assert {name for genres in movies.genres for name in genres} <= set(MAPPINGS["imdb"])
    own, _ = clean(movies, posters, Wanted((), "own", 1))
    assert len(own) == 9_603 and own.genres.explode().nunique() == 27


@pytest.mark.slow
def test_real_parts_with_near_duplicates(poster_archive):
    movies, posters = archive_tables(poster_archive, "movies_metadata.csv")
    table, _ = clean(movies, posters)
    facts = [verify(Path(poster_archive, path).read_bytes()) for path in table.path]
    table["sha256"], table["phash"] = [fact.sha256 for fact in facts], [fact.phash for fact in facts]
    split = balanced(table.assign(group=near_duplicates(table)), "none")
    assert split.part.value_counts().to_dict() == {"train": 6750, "test": 1908, "validation": 894}
