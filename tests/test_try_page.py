"""The page that names genres in the reader's browser: it answers as Python does, to whatever it is given, and asks no other host for anything."""
import base64
import io
import json
import runpy
import subprocess
import sys
import zipfile

import browser
import numpy as np
import pytest
from browser import ROOT
from PIL import Image, ImageOps

from poster_genres.combination import Combination, add_words
from poster_genres.demo.archive import poster_file
from poster_genres.demo.posters import made_up_movies
from poster_genres.lib.genres import multi_hot
from poster_genres.lib.ngrams import text_features
from poster_genres.prediction import find_predictor, predict, shipped_predictor
from poster_genres.words import fit_text_model

RUNTIME = ROOT / ".venv" / "runtime" / "node_modules"
SIZES = [(182, 268), (342, 513), (500, 750), (1000, 1480)]


@pytest.fixture(scope="module")
def chrome():
    with browser.browsing() as one:
        yield one


def build(out, predictor=shipped_predictor()):
    "Build a site of this page alone."
    done = subprocess.run([sys.executable, "docs/build.py", str(out), "--only", "try.html", "--predictor", str(predictor)], cwd=ROOT,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not RUNTIME.exists():
        pytest.skip("no LiteRT.js here, so the page was not tried: `make runtime` installs it")
    out = tmp_path_factory.mktemp("site")
    build(out)
    return out


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site) as one:
        yield f"{one}/try.html"


@pytest.fixture
def page(chrome, address):
    "The page, freshly opened; at the end nothing was asked of another host, and nothing is wrong in the console."
    with opened(chrome, address) as one:
        yield one


class opened:
    "A page in a browser without anything kept; leaving it checks its console and its requests."

    def __init__(self, chrome, address, expected=(), **options):
        self.address, self.expected, self.wrong = address, expected, []
        self.context = chrome.new_context(accept_downloads=True, **options)

    def __enter__(self):
        page, home = self.context.new_page(), self.address.split("/")[2]
        page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}") if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.context.on("request", lambda request: self.wrong.append(f"asks elsewhere: {request.url}")
                        if request.url.startswith("http") and request.url.split("/")[2] != home else None)
        page.goto(self.address)
        page.wait_for_selector("#try:not([hidden])")
        return page

    def __exit__(self, kind, *_):
        self.context.close()
        wrong = [line for line in self.wrong if not any(words in line for words in self.expected)]
        assert kind or not wrong, "\n".join(wrong)


def give(page, files, way="input[type=file] >> nth=0"):
    "Choose files (paths, or dictionaries with name, mimeType and buffer) and wait until all have been worked on."
    page.set_input_files(way, files)
    finished(page)


def finished(page):
    page.wait_for_selector("[data-part=tools]:not([hidden])", timeout=120_000)


def saved(page):
    "What the page saves as JSON: an object a line, by the names of the files."
    with page.expect_download() as download:
        page.click("[data-part=save]")
    return download.value.path().read_text(encoding="ascii")


def by_file(text):
    return {line["file"].rsplit("/", 1)[-1]: line for line in map(json.loads, text.splitlines())}


def probabilities(answer):
    return {genre["name"]: genre["probability"] for genre in answer["genres"]}


def difference(one, other):
    "The largest difference between two answers' probabilities."
    return max(abs(probabilities(one)[name] - share) for name, share in probabilities(other).items())


@pytest.fixture(scope="module")
def posters(tmp_path_factory):
    "Forty synthetic posters of four sizes."
    folder = tmp_path_factory.mktemp("posters")
    for number, movie in enumerate(made_up_movies(40, seed=5)):
        picture, size = Image.open(io.BytesIO(poster_file(movie))), SIZES[number % 4]
        picture.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}_{size[0]}.jpg", quality=80 + number % 3 * 6)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    "Ten pictures that no camera takes."
    folder = tmp_path_factory.mktemp("odd")
    picture = Image.open(io.BytesIO(poster_file(made_up_movies(1, seed=9)[0]))).convert("RGB").resize((500, 750))
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("CMYK").save(folder / "print.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=turned)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    see_through = picture.convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(picture.size))
    see_through.save(folder / "alpha.png")
    picture.save(folder / "progressive.jpg", progressive=True)
    picture.save(folder / "lossy.webp")
    picture.rotate(90, expand=True).save(folder / "landscape.png")
    picture.resize((1, 300)).save(folder / "line.png")
    picture.resize((3, 2)).save(folder / "tiny.gif")
    return sorted(folder.iterdir())


def test_one_poster_by_keyboard(page, posters):
    "The size is said beforehand; the answer is Python's; a heat map is seen and said; the JSON is that of `predict --json`."
    assert "MB are loaded from this site" in page.inner_text("[data-part=size]")
    give(page, posters[1])
    expected = next(predict([posters[1]], words=False))
    text = saved(page)
    assert difference(json.loads(text), expected) <= 0.001
    expected["file"] = posters[1].name
    if json.loads(text) == expected:
        assert text == json.dumps(expected) + "\n", "to the letter"
    best = expected["genres"][0]
    assert best["name"] in page.inner_text("[data-part=said]")
    page.focus("button.where >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_selector("canvas:not([hidden])")
    assert f"What speaks for {best['name']} lies mostly in the " in page.inner_text("[data-part=where]")
    assert page.get_attribute("button.where >> nth=0", "aria-pressed") == "true"
    colours = page.evaluate("""() => { const canvas = document.querySelector('canvas'), data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let grey = 0; for (let at = 0; at < data.length; at += 4) grey += Math.abs(data[at] - data[at + 2]) < 3; return 4 * grey / data.length; }""")
    assert 0.1 < colours < 0.95, "partly grey, partly tinted"
    page.keyboard.press("Enter")
    assert page.is_hidden("canvas")


def test_a_heat_map_adds_up_to_the_logit_of_the_file_that_is_shipped():
    "explain.json says which tensors the last layer averages and where its weights are; without XNNPACK, which keeps its tensors to itself."
    from ai_edge_litert.interpreter import Interpreter
    with zipfile.ZipFile(shipped_predictor()) as archive:
        known = json.loads(archive.read("explain.json"))
    data, poster = shipped_predictor().read_bytes(), np.random.default_rng(0).integers(0, 256, (1, 268, 182, 3), dtype=np.uint8)
    network = Interpreter(str(shipped_predictor()), num_threads=1, experimental_preserve_all_tensors=True)
    network.allocate_tensors()
    network.set_tensor(network.get_input_details()[0]["index"], poster)
    network.invoke()
    answer = network.get_tensor(network.get_output_details()[0]["index"])[0].astype(float)
    weights = np.frombuffer(data, "<f4", len(answer) * known["features"], known["weights"]).reshape(len(answer), -1)
    logits = np.frombuffer(data, "<f4", len(answer), known["bias"]).astype(float)
    for level in known["levels"]:
        places = network.get_tensor(level["tensor"])[0].reshape(-1, level["shape"][-1]).astype(float)
        assert list(network.get_tensor(level["tensor"]).shape[1:]) == level["shape"]
        for kind, values in {"mean": places, "spread": np.maximum(places - places.mean(0), 0)}.items():
            if kind in level:
                logits = logits + weights[:, level[kind]:level[kind] + places.shape[1]] @ values.mean(0)
    np.testing.assert_allclose(logits, np.log(answer / (1 - answer)), atol=1e-3)


@pytest.mark.slow
def test_a_map_in_the_browser_adds_up_too(page, posters):
    give(page, posters[0])
    exact = page.evaluate("""async () => {
        const { Asking } = await import('/try/asking.js'), asking = new Asking(() => {});
        await asking.ask('load', JSON.parse(document.getElementById('files').textContent));
        const file = await (await fetch('/try/examples/example1.jpg')).blob(), { probabilities } = await asking.ask('poster', { file });
        return Promise.all(probabilities.map(async (share, genre) => {
            const { map, constant } = await asking.ask('where', { file, genre });
            return map.reduce((sum, value) => sum + value, constant) - Math.log(share / (1 - share)); }));
    }""")
    assert len(exact) == 18 and max(map(abs, exact)) < 1e-3


@pytest.mark.slow
def test_fifty_files_get_the_answers_of_python(page, posters, odd):
    give(page, [*posters, *odd])
    found, expected = by_file(saved(page)), {answer["file"].rsplit("/", 1)[-1]: answer for answer in predict([*posters, *odd], words=False)}
    assert found.keys() == expected.keys() and len(found) == 50
    differences = {name: difference(found[name], answer) for name, answer in expected.items()}
    assert max(differences.values()) <= 0.01, differences
    assert max(share for name, share in differences.items() if name not in {path.name for path in odd}) <= 0.001, differences


KINDS = {"usual": {"quality": 80}, "fine": {"quality": 95, "subsampling": 0}, "progressive": {"progressive": True}, "grey": {"mode": "L"},
         "restarting": {"restart_marker_rows": 2}, "of two by one": {"subsampling": 1}, **{f"turned {turn}": {"turn": turn} for turn in range(2, 9)}}


@pytest.mark.slow
def test_a_jpeg_decoded_smaller_is_that_of_pillow_to_the_bit(page):
    picture = Image.open(io.BytesIO(poster_file(made_up_movies(1, seed=2)[0]))).resize((205, 307))
    for name, options in KINDS.items():
        file, exif, options = io.BytesIO(), Image.Exif(), dict(options)
        exif[0x0112] = options.pop("turn", 1)
        picture.convert(options.pop("mode", "RGB")).save(file, "JPEG", exif=exif, **options)
        for factor in (2, 4, 8):
            expected = Image.open(file)
            expected.draft(None, (expected.width // factor, expected.height // factor))
            expected = np.asarray(ImageOps.exif_transpose(expected).convert("RGB"))
            found = page.evaluate("""async ([data, factor]) => {
                const { decodeSmaller } = await import('/try/jpeg.js'), bytes = Uint8Array.from(atob(data), sign => sign.charCodeAt(0));
                const found = decodeSmaller(bytes, () => factor);
                return found && [decodeSmaller(bytes.subarray(0, bytes.length / 2), () => factor), found.height, found.width, [...found.pixels]];
            }""", [base64.b64encode(file.getvalue()).decode(), factor])
            if name == "of two by one":
                assert found is None, "left to the browser"
            else:
                half, height, width, pixels = found
                assert half is None, "a file that is cut off is left to the browser, which refuses it"
                np.testing.assert_array_equal(np.reshape(pixels, (height, width, 4))[..., :3], expected, f"{name} {factor}")


@pytest.fixture(scope="module")
def wordy(tmp_path_factory):
    "A predictor with a text model of its own."
    movies, genres, random = made_up_movies(400), find_predictor().genres, np.random.default_rng(0)
    model = fit_text_model([[(movie.title, 1.0)] for movie in movies], multi_hot([movie.genres for movie in movies], genres), genres, bits=10)
    combination = Combination(random.uniform(0.5, 1.5, (2, len(genres))), random.normal(0, 0.3, len(genres)), random.uniform(0.1, 0.5, len(genres)))
    path = tmp_path_factory.mktemp("predictor") / "wordy.tflite"
    with zipfile.ZipFile(shipped_predictor()) as archive:
        path.write_bytes(shipped_predictor().read_bytes()[:archive.infolist()[0].header_offset])
        with zipfile.ZipFile(path, "a") as copy:
            for name in ("genres.json", "explain.json"):
                copy.writestr(name, archive.read(name))
    return add_words(path, model, {"picture_and_title": combination})


TITLES = ["The Crooked Heretic", "Amélie", "ΟΔΥΣΣΕΎΣ 2", "İstanbul'da bir gün", "七人の侍", "Зеркало (1975)", "🎬 🎬", "ﬁnal ½ Ⅻ", "<b>Saw</b> & co", "a" * 300]


@pytest.mark.slow
def test_a_title_moves_the_bars_as_it_does_in_python(chrome, wordy, posters, tmp_path):
    build(tmp_path / "site", wordy)
    with browser.served(tmp_path / "site") as home, opened(chrome, f"{home}/try.html") as page:
        give(page, posters[0])
        alone = json.loads(saved(page))
        for title in TITLES:
            page.fill("[data-part=title]", title)
            page.wait_for_timeout(150)
            found, expected = json.loads(saved(page)), next(predict([posters[0]], wordy, titles={str(posters[0]): title}, words=False))
            assert difference(found, expected) <= 0.001 and found["title"] == expected["title"], title
            assert {genre["name"] for genre in found["genres"] if genre["predicted"]} == {genre["name"] for genre in expected["genres"] if genre["predicted"]}
        assert difference(found, alone) > 0.01, "a title makes a difference"
        page.fill("[data-part=title]", " ")
        page.wait_for_timeout(150)
        assert json.loads(saved(page)) == alone, "without a title the picture's own answer"
        hashes = page.evaluate("async titles => { const { features } = await import('/try/words.js'); return titles.map(features); }", TITLES)
        assert hashes == [list(text_features(title)) for title in TITLES]


@pytest.mark.slow
def test_without_a_text_model_there_is_no_field_for_a_title(page, posters):
    with zipfile.ZipFile(shipped_predictor()) as archive:
        has = "words.json" in archive.namelist()
    give(page, posters[0])
    assert page.is_visible("[data-part=title]") == has


DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), sign => sign.charCodeAt(0)), given = new DataTransfer();
    given.items.add(new File([bytes], name));
    const event = kind => kind === 'paste' ? new ClipboardEvent('paste', { clipboardData: given, bubbles: true, cancelable: true })
        : new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true });
    for (const kind of %s) document.querySelector('h1').dispatchEvent(event(kind));
}"""


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [["dragover", "drop"], ["paste"]])
def test_dropping_and_pasting_anywhere_a_second_one_replaces_the_first(page, posters, kinds):
    for poster in posters[:2]:
        page.evaluate(DROP % json.dumps(kinds), [poster.name, base64.b64encode(poster.read_bytes()).decode()])
        page.wait_for_selector(f"[data-part=said]:has-text('{poster.name}')", timeout=60_000)
    finished(page)
    assert list(by_file(saved(page))) == [posters[1].name]
    page.click("[data-part=clear]")
    assert page.is_hidden("[data-part=details]") and page.is_hidden("[data-part=tools]")


@pytest.mark.slow
def test_an_example_and_a_photo(page, posters):
    page.click("button[data-example] >> nth=1")
    finished(page)
    assert "example2.jpg" in page.inner_text("[data-part=said]")
    give(page, posters[2], "input[capture]")
    assert posters[2].name in page.inner_text("[data-part=said]")


def bad_files():
    "Names and contents of files without a picture, with a part of the sentence that is expected."
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    good = poster_file(made_up_movies(1)[0])
    return {"empty.jpg": (b"", "empty"), "text.jpg": (b"no image", "no image"), "page.jpg": (b"<!DOCTYPE html><p>", "web page"), "drawing.svg": (b"<svg/>", "drawing"),
            "half.jpg": (good[:300], "JPEG"), "cut.jpg": (good[:len(good) // 2], "JPEG"), "bomb.png": (bomb.getvalue(), "pixels"), "<img src=x onerror=alert(1)>.png": (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG"),
            "scan.tiff": (b"II*\0" + bytes(40), "TIFF")}


@pytest.mark.slow
def test_each_bad_file_has_a_line_with_its_reason(page, posters):
    bad = bad_files()
    give(page, [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, (data, _) in bad.items()]
         + [{"name": "good.jpg", "mimeType": "image/jpeg", "buffer": b"junk" + posters[0].read_bytes()}])
    found = by_file(saved(page))
    assert list(found)[0] == "good.jpg" and "genres" in found["good.jpg"], "errors come last; junk before a JPEG does no harm"
    rows = dict(zip(page.locator(".posters tbody th").all_inner_texts(), page.locator(".posters tbody td:last-child").all_inner_texts()))
    for name, (_, words) in bad.items():
        assert words in found[name]["error"] and found[name]["error"] in rows[name], name
    assert f"{len(bad)} files without an answer" in page.inner_text("[data-part=status]")
    give(page, [{"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"no image"}])
    assert "text.jpg has no answer: no image" in page.inner_text("[data-part=status]") and page.is_hidden("[data-part=details]")


@pytest.mark.slow
def test_a_hundred_files_with_a_count_and_a_button_to_stop(page, posters):
    hundred = [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": posters[4 * (number % 10)].read_bytes()} for number in range(100)]
    give(page, hundred)
    assert "100 posters answered" in page.inner_text("[data-part=status]") and page.locator(".posters tbody tr").count() == 100
    assert len(by_file(saved(page))) == 100
    page.set_input_files("input[type=file] >> nth=0", hundred)
    page.wait_for_selector("[data-part=stop]:not([hidden])")
    page.wait_for_function("/^([3-9]|..) of 100/.test(document.querySelector('[data-part=count]').textContent)")
    page.click("[data-part=stop]")
    finished(page)
    assert "stopped before the other" in page.inner_text("[data-part=status]")
    assert 2 < len(by_file(saved(page))) < 100
    page.click(".posters tbody button >> nth=1")
    assert page.get_attribute(".posters tbody button >> nth=1", "aria-current") == "true" and "1.jpg" in page.inner_text("[data-part=said]")


@pytest.mark.slow
def test_a_download_that_breaks_off_is_tried_again_and_is_kept(chrome, address, posters):
    with opened(chrome, address, expected=("ERR_", "Failed to load resource")) as page:
        asked = []
        page.context.route("**/predictor.tflite.gz*", lambda route: (asked.append(1), route.abort() if len(asked) == 1 else route.continue_()))
        page.set_input_files("input[type=file] >> nth=0", posters[0])
        page.wait_for_selector("[data-part=retry]:not([hidden])", timeout=60_000)
        assert "did not load" in page.inner_text("[data-part=status]")
        page.click("[data-part=retry]")
        finished(page)
        assert posters[0].name in page.inner_text("[data-part=said]")
        page.reload()
        page.wait_for_selector("#try:not([hidden])")
        page.wait_for_function("document.querySelector('[data-part=size]').textContent.includes('earlier visit')")
        give(page, posters[0])
        assert len(asked) == 2, "kept: not loaded again"


@pytest.mark.slow
@pytest.mark.parametrize("lacking", ["WebAssembly", "DecompressionStream"])
def test_an_old_browser_is_told_so(chrome, address, lacking):
    context = chrome.new_context()
    context.add_init_script(f"delete window.{lacking}")
    page = context.new_page()
    page.goto(address)
    assert f"too old for this page (it lacks {lacking})" in page.inner_text("#unable") and page.is_hidden("#try")
    context.close()


@pytest.mark.slow
def test_without_scripts_and_from_a_folder(chrome, site, address):
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "needs JavaScript" in page.inner_text("#unable") and page.is_hidden("#try")
    context.close()
    page = chrome.new_page()
    page.goto((site / "try.html").as_uri())
    assert "python3 -m http.server" in page.inner_text("#unable") and page.is_hidden("#try")
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_it_is_whole_and_accessible(chrome, address, posters, width, scheme):
    with opened(chrome, address, viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width == 390) as page:
        for files in ([], [posters[0]], [*posters[:3], {"name": f"{'long' * 30}.txt", "mimeType": "text/plain", "buffer": b"none"}]):
            if files:
                give(page, [{"name": path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()} if not isinstance(path, dict) else path for path in files])
                page.click("button.where >> nth=0")
                page.wait_for_selector("canvas:not([hidden])")
            state = page.evaluate(browser.STATE)
            assert state["wide"] <= 0 and not state["past"] and not state["pictures"], state
            small = page.eval_on_selector_all("#try button, #try label.button", """all => all.filter(each => each.offsetParent)
                .map(each => [each.textContent, each.getBoundingClientRect()]).filter(([, box]) => box.width < 24 || box.height < 24).map(([text]) => text)""")
            assert not small, "targets of 24 pixels"
            if browser.AXE.exists():
                page.add_script_tag(path=str(browser.AXE))
                found = page.evaluate("async () => (await axe.run()).violations.map(each => each.id + ': ' + each.nodes[0].html)")
                assert not found, found


@pytest.mark.slow
def test_without_the_runtime_the_site_has_no_such_page(tmp_path):
    "One line says so, and how to get it."
    code = "import sys, pathlib; sys.path.insert(0, 'docs'); import try_page; try_page.LITERT = pathlib.Path('nowhere'); import build; build.main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "site"), "--only", "index.ipynb", "try.html"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "`make runtime` installs it" in done.stdout, done.stderr[-2000:]
    assert not (tmp_path / "site" / "try.html").exists() and "try.html" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_shipping_function_refuses_a_network_whose_last_layer_it_does_not_know(tmp_path):
    ship = runpy.run_path(str(ROOT / "benchmarks" / "ship.py"), run_name="imported")
    before = shipped_predictor().read_bytes()
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(before)
    assert ship["add_explanation"](copy).read_bytes() == before, "done already: nothing is added"
