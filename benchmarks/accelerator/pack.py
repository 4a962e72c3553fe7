"""Write what training needs, in pieces: `python pack.py RUN ARCHIVE OUT [MEGABYTES [FIRST]]`.

RUN is a run on the archive up to step 3 (sample.parquet). OUT gets index.npz (ids, parts, genres, the other catalogue's genres and the
decade) and piece0.npz, piece1.npz, ... of the posters' files: those of the training and validation parts, never of the test part.
A piece has at most MEGABYTES, the first one FIRST. On the other machine, `python unpack.py piece0.npz pixels0.npy` and so on.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from poster_genres.lib.catalogue import id_of

from poster_genres.lib.genres import genre_names, multi_hot


def further(sample, archive):
    "The auxiliary targets of each movie (the second catalogue's genres, the decade), and which of them are known."
    table = pd.read_csv(archive / "MovieGenre.csv", encoding="latin-1", dtype=str).dropna(subset=["imdbId", "Genre"])
    table = table.assign(imdb_id=table.imdbId.map(id_of)).drop_duplicates("imdb_id").set_index("imdb_id")
    told = table.Genre.str.split("|").reindex(sample.imdb_id)
    names = [name for name, count in told.dropna().explode().value_counts().items() if count >= 50]
    hot = np.array([[name in genres for name in names] if isinstance(genres, list) else [False] * len(names) for genres in told])
    year = pd.to_numeric(sample.year, errors="coerce").to_numpy(float)
    decade = np.clip((np.nan_to_num(year) // 10 - 194).astype(int), 0, 7)
    decades = np.eye(8, dtype=bool)[decade]
    known = np.concatenate([np.repeat(told.notna().to_numpy()[:, None], len(names), 1), np.repeat(np.isfinite(year)[:, None], 8, 1)], 1)
    print(len(names), "genres of the second catalogue, known for", int(told.notna().sum()))
    return np.concatenate([hot, decades], 1), known


def main(run, archive, out, megabytes=500, first=500):
    "Write `out`; movies in the archive's train_only.txt, if it has one, are for training alone."
    run, archive, out = Path(run), Path(archive), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sample = pd.read_parquet(run / "sample.parquet")
    only = set((archive / "train_only.txt").read_text().split()) if (archive / "train_only.txt").exists() else set()
    names = genre_names(sample.genres)
    sample = sample[sample.part.isin(["train", "validation"])]
    own = ~sample.imdb_id.isin(only)
    sample = sample.assign(own=own).sort_values(["own", "imdb_id"], ascending=[False, True]).reset_index(drop=True)
    more, known = further(sample, archive)
    files, number = [], 0
    for imdb_id in sample.imdb_id:
        files.append((archive / "posters" / f"{imdb_id}.jpg").read_bytes())
        if sum(map(len, files)) > (first if number == 0 else megabytes) * 2**20 or imdb_id == sample.imdb_id.iloc[-1]:
            np.savez(out / f"piece{number}.npz", lengths=list(map(len, files)), data=np.frombuffer(b"".join(files), np.uint8))
            files, number = [], number + 1
    np.savez_compressed(out / "index.npz", ids=sample.imdb_id.to_numpy(str), part=sample.part.to_numpy(str), names=np.array(names), pieces=number,
                        genres=multi_hot(sample.genres, names), more=more, known=known, archive=sample.own.to_numpy())
    print(sample.part.value_counts().to_dict(), len(names), "genres,", number, "pieces")


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(float, sys.argv[4:6]))
