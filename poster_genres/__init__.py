"""Movie genres from posters: `poster_genres.predict("poster.jpg")` names the genres of a poster."""
__version__ = "0.1.0"


def predict(*posters, predictor=""):
    "Yield an answer for each poster (image files, or folders of them): `file` and `genres`, or `file` and `error`. Loads the network when it is called."
    from .prediction import find_predictor, poster_files, predict
    return predict(poster_files(map(str, posters)), find_predictor(predictor))
