"""The parser of title pages under fire: whatever a page holds, no exception, no unsafe link, and a reason where nothing was found.

A thousand pages with every `make test`, 5,000 with `make test-slow`, 100,000 by `make fuzz`.
"""
import json
import os
import time
from urllib.parse import urlsplit

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poster_genres.lib.runs import TABLES, write_table
from poster_genres.demo.server import PAGE_LAYOUTS, Film, media_key, poster_link, title_page
from poster_genres.lib.client import allowed_host
from poster_genres.lib.sites import POSTER_HOSTS as HOSTS
from poster_genres.lib.sites import sized
from poster_genres.scraping import TitlePage, parse_title_page

def fuzz(number, **options):
    "Settings for so many pages."
    return settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck), **options)


texts = st.text(max_size=20) | st.sampled_from(["", "The Paper Moon", 'Fish & "Chips" <3', "</script>", "Fish &amp;amp; Chips", "\ud83d", "\0"])
links = st.sampled_from([
    poster_link("tt0000007"), poster_link("tt0000007", "UX182_CR0,0,182,268_AL_"), "//m.media-amazon.com/images/M/a.jpg", "http://ia.media-imdb.com/images/M/b.jpg",
    "https://m.media-amazon.com/images/S/sash/nopicture.png", "https://example.org/a.jpg", "https://m.media-amazon.com.example.org/images/M/a.jpg",
    "https://m.media-amazon.com@example.org/images/M/a.jpg", "https://m.media-amazon.com\\@example.org/images/M/", "javascript:alert(1)", "data:image/png;base64,",
    "file:///etc/passwd", "https://[::1/", "https://127.0.0.1/images/M/a.jpg", "https://m.media-amazon.com:8080/images/M/a.jpg", "https://m.media-amazon.com/\n/images/M/",
    "https://image.tmdb.org/t/p/w500/a.jpg", "HTTPS://M.MEDIA-AMAZON.COM/images/M/A.jpg", "", " "]) | st.text(max_size=30)
json_values = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | texts | links,
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["@graph", "@type", "image", "name", "genre", "url", "contentUrl"]) | texts, inner, max_size=4),
                           max_leaves=12)
movies = st.builds(Film, st.from_regex(r"tt[0-9]{7,9}", fullmatch=True), texts, texts, st.sampled_from([("Drama", "Music"), ("Drama",), ()]))
whole_pages = st.builds(title_page, movies, st.sampled_from(PAGE_LAYOUTS), st.booleans())
pieces = st.one_of(
    st.builds(lambda value: f'<script type="application/ld+json">{json.dumps(value)}</script>', json_values),
    st.builds(lambda value: f'<script id="__NEXT_DATA__">{json.dumps({"props": {"pageProps": {"aboveTheFoldData": value}}})}</script>',
              st.fixed_dictionaries({"primaryImage": json_values, "genres": json_values})),
    st.builds('<div class="poster"><a><img alt="{}" src="{}" srcset="{} 190w, {}"></a></div>'.format, texts, links, links, texts),
    st.builds('<div data-testid="hero-media__poster"><img src="{}" srcset="{}"></div>'.format, links, links),
    st.builds('<meta property="og:image" content="{}">'.format, links),
    st.sampled_from(["<![CDATA[", "<!", "<!--", "-->", "<div class>", "</div>" * 50, "<div data-testid=x>" * 200, '<div class="poster">' * 100, "&#xd800;", "&#99999999;", "<![if"]),
    st.text(max_size=40))
mixtures = st.lists(pieces | whole_pages, max_size=4).map("\n".join)


@st.composite
def damaged(draw):
    "A page from which a part was cut, or in which one was doubled or overwritten."
    page = draw(whole_pages | mixtures)
    start, end = sorted(draw(st.tuples(st.integers(0, len(page)), st.integers(0, len(page)))))
    return page[:start] + draw(st.sampled_from(["", page[start:end] * 2, "\x00", '"', "<", "&#0;", "]]>"]) | pieces) + page[end:]


pages = st.one_of(whole_pages, mixtures, damaged(), damaged().map(lambda page: page.encode("utf-8", "replace")),
                  damaged().map(lambda page: page.encode("utf-16", "replace")), st.binary(max_size=200))


def check(page):
    "A page gives a safe link or a reason, and nothing else."
    found = parse_title_page(page)
    assert isinstance(found, TitlePage) and (found.link is None) == (found.reason is not None)
    if found.link:
        assert allowed_host(found.link, HOSTS) and urlsplit(found.link).scheme == "https" and "/images/S/" not in found.link
        assert allowed_host(sized(found.link, 182), HOSTS)
    assert found.layout in (None, *PAGE_LAYOUTS)
    for text in (found.name, found.reason, found.link):
        assert text is None or text.encode("utf-8")


@fuzz(1000, derandomize=True)
@given(pages)
def test_any_page_gives_a_safe_link_or_a_reason(page):
    check(page)


@pytest.mark.slow
@pytest.mark.timeout(0)
@fuzz(int(os.environ.get("FUZZ_PAGES", 5000)))
@given(pages)
def test_many_pages_give_safe_links_or_reasons(page):
    check(page)


@settings(max_examples=200, deadline=None)
@given(movies, st.sampled_from(PAGE_LAYOUTS))
def test_a_whole_page_is_always_read(movie, layout):
    "Whatever the movie is called, its page leads to its poster."
    found = parse_title_page(title_page(movie._replace(title=movie.title.replace("\r", " ")), layout))
    assert found.link and media_key(movie.imdb_id) in found.link and found.layout == layout


@settings(max_examples=50, deadline=None)
@given(pages)
def test_what_was_read_fits_into_the_table(tmp_path_factory, page):
    found = parse_title_page(page)
    row = dict.fromkeys(TABLES["movies"].names) | {"row": 1, "status": "found", "poster_name": found.name, "poster_link": found.link, "reason": found.reason}
    write_table(pd.DataFrame([row]), tmp_path_factory.mktemp("table") / "movies.parquet")


@pytest.mark.parametrize("newer", PAGE_LAYOUTS)
@pytest.mark.parametrize("older", PAGE_LAYOUTS)
def test_mixtures_of_layouts(newer, older):
    "Two pages in one: where one of them has a poster it is found, in either order."
    movie = Film("tt0000007", "The Paper Moon", "1994", ("Drama",))
    with_poster, without = title_page(movie, newer), title_page(movie, older, poster=False)
    for page in (with_poster + without, without + with_poster):
        assert media_key("tt0000007") in (parse_title_page(page).link or ""), parse_title_page(page)


SLOW = {  # what kept parsers busy for minutes: tags, comments, quotation marks and scripts that never end, and too many of everything
    "tags without an end": "<a href=x ", "less-than signs": "<", "quoted": "<a b='>", "comments": "<!--", "declarations": "<![CDATA[>", "instructions": "<?",
    "end tags": "</div>", "nested": "<div data-testid=x>", "posters": '<div class="poster"><img src="https://m.media-amazon.com/a.jpg"></div>',
    "scripts": "<script>", "closed scripts": "<script></script>", "script tags without an end": "<script ", "metas": "<meta content=x>", "entities": "&#x41;",
    "attributes": "<div " + "a=1 " * 1000, "JSON": '<script type="application/ld+json">' + '[{"@graph":' * 1000, "quotes": "<a \"<a '"}
HIDDEN = {f"{name} behind a script in a style": "<style><script></style>" + SLOW[name] * 100_000 for name in ("tags without an end", "comments", "quoted", "quotes")} | {
    "nested lists": '<script type="application/ld+json">' + "[" * 900 + "[]" + (",[]" * 99 + "]") * 900 + "</script>",
    "nested links": "<div class=title_wrapper>" + '<a href="/genre">x' * 9000}


@pytest.mark.parametrize("what", SLOW)
def test_no_page_keeps_the_parser_busy(what):
    "CPU time of three megabytes, with room for a slow machine; what is quadratic would take hours."
    page = SLOW[what] * (3_000_000 // len(SLOW[what])) + '<div class="poster"><img src="https://m.media-amazon.com/images/M/a.jpg"></div>'
    started = time.process_time()
    check(page)
    assert time.process_time() - started < 8


@pytest.mark.parametrize("what", HIDDEN)
def test_no_small_page_keeps_the_parser_busy(what):
    started = time.process_time()
    check(HIDDEN[what])
    assert time.process_time() - started < 8
