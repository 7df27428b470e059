"""The built pages: every link leads somewhere, and a browser shows them whole, offline and without complaint."""

import functools
import http.server
import json
import os
import shutil
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
CI = "CI" in os.environ
NOT_BUILT = "there is no _build/html: run make book first"

# What a page fetches by itself; an <a href> may lead anywhere.
FETCHED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"),
           ("object", "data")}
NOT_FETCHED = {"canonical", "index", "search", "next", "prev", "author", "license"}  # <link rel>


def missing(reason: str):
    """Skip, saying why; where CI is set nothing may be skipped."""
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Page(HTMLParser):
    """The ids of a page, its links, and what it fetches."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        for key in ("href", "src", "data"):
            url = attributes.get(key)
            if url is None or (key == "data" and tag != "object"):
                continue
            self.links.append(url)
            if (tag, key) in FETCHED and not (tag == "link" and attributes.get("rel") in NOT_FETCHED):
                self.fetched.append(url)


@functools.cache
def parse(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(params=PAGES or [None])
def page(request) -> str:
    if request.param is None:
        missing(NOT_BUILT)
    return request.param


def test_links_lead_somewhere(page):
    broken = []
    for url in parse(HTML / page).links:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = (HTML / page).parent / unquote(parts.path) if parts.path else HTML / page
        if not target.exists():
            broken.append(url)
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parse(target).ids:
            broken.append(url)
    assert not broken


def test_nothing_is_fetched_from_elsewhere(page):
    assert not [url for url in parse(HTML / page).fetched if urlsplit(url).netloc]


# ---- in a browser ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def origin():
    """The built pages, served on this machine."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=HTML))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    folders = [os.environ["PATH"], os.environ.get("CHROMEWEBDRIVER", "")]
    driver = shutil.which("chromedriver", path=os.pathsep.join(filter(None, folders)))
    if not (chromium and driver):
        missing("no chromium with its chromedriver here: the pages were not opened in a browser")

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage",
                 "disable-background-networking", "disable-component-update", "disable-sync"]:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver's path is given, so that selenium never looks for one to download.
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield chrome
    chrome.quit()


def resize(browser, width: int) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})


def open_page(browser, url: str, width: int) -> None:
    """Open a page in a window of that width and wait until its scripts and its math are done."""
    for log in ("browser", "performance"):
        browser.get_log(log)  # reading empties it
    resize(browser, width)
    browser.get(url)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and browser.execute_script(
            "return document.readyState !== 'complete' || document.querySelectorAll('.math').length > 0 &&"
            " !(window.MathJax && MathJax.startup && MathJax.startup.document"
            "   && [...document.querySelectorAll('.math')].every(m => m.querySelector('mjx-container')))"):
        time.sleep(0.05)


def check(browser, allowed: str) -> None:
    """Fail with all that is wrong with the open page; `allowed` begins every address that it may fetch."""
    found = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"
             # The theme preloads its icons' fonts, which a browser refuses to files; it then loads them without.
             and not (allowed.startswith("file:") and "/vendor/fontawesome/" in entry["message"])]
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith((allowed, "data:", "blob:", "about:", "chrome:")):
                found.append(f"fetched {url}")
    found += browser.execute_script("""
        const found = [];
        for (const math of document.querySelectorAll('.math'))
            if (!math.querySelector('mjx-container')) found.push('not rendered: ' + math.textContent);
        for (const error of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
            found.push('TeX error: ' + (error.dataset.mjxError || error.textContent));
        for (const image of document.images) {
            image.loading = 'eager';
            if (image.complete && image.naturalWidth === 0) found.push('broken image: ' + image.src);
        }
        return found;""")
    assert not found, "\n".join(found)


def test_page_reads_well_in_a_wide_and_in_a_narrow_window(browser, page):
    """As a file, as `make book` leaves it: a browser allows that less than a page that is served."""
    open_page(browser, (HTML / page).as_uri(), width=1400)
    check(browser, allowed=HTML.as_uri())
    cut = browser.execute_script("""
        const equations = [...document.querySelectorAll('mjx-container[display="true"]')].filter(e => e.scrollWidth > e.clientWidth + 2);
        const cells = [...document.querySelectorAll('table.dataframe td')].filter(cell => cell.textContent.trim().endsWith('...'));
        return [...equations.map(e => 'equation ' + e.closest('.math').id), ...cells.map(cell => 'cell ' + cell.textContent)];""")
    assert not cut, f"cut off in a wide window: {cut}"
    resize(browser, 400)
    wider = browser.execute_script("""
        const width = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= width) return [];
        const parts = [...document.querySelectorAll('.bd-article *, .bd-footer *')]
            .filter(part => part.getBoundingClientRect().right > width + 1).map(part => part.outerHTML.slice(0, 80));
        return [document.documentElement.scrollWidth, ...parts.slice(0, 8)];""")
    assert not wider, f"the page scrolls sideways: {wider}"
    check(browser, allowed=HTML.as_uri())


def test_a_page_that_is_served_reads_well(browser, origin):
    if not PAGES:
        missing(NOT_BUILT)
    open_page(browser, urljoin(origin, "chapters/01_feedback_graphs.html"), width=1000)
    check(browser, allowed=origin)
