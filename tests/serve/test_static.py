"""The page's files: short, without what a content security policy or a hostile caption would make of them."""

import re
from pathlib import Path

import rsretrieval.serve

STATIC = Path(rsretrieval.serve.__file__).parent / "static"
MODULES = sorted(STATIC.glob("*.js"))
VENDOR = STATIC / "vendor"


def test_modules_are_short_and_make_no_html() -> None:
    assert len(MODULES) > 10
    for file in MODULES:
        code = file.read_text(encoding="utf-8")
        assert len(code.splitlines()) < 250, file.name
        assert code.startswith("/** "), f"{file.name} says first what it is for"
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|DOMParser", code
        )
        assert not re.search(r"https?://", code), f"{file.name} asks another server"


def test_every_import_is_there() -> None:
    for file in MODULES:
        for name in re.findall(r'(?:\bfrom\s+|import\()"([^"]+)"', file.read_text(encoding="utf-8")):
            assert name.startswith("./"), (file.name, name)
            assert (STATIC / name).is_file(), (file.name, name)


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="/static/main.js">']
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", page)
    for name in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (STATIC / name).is_file()
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for file in MODULES:
        for name in re.findall(r'byId\("([^"]+)"\)', file.read_text(encoding="utf-8")):
            assert name in identifiers, (file.name, name)


def test_what_comes_from_others_has_its_licence() -> None:
    names = {file.name for file in VENDOR.iterdir()}
    assert names == {"maplibre-gl.mjs", "maplibre-gl-worker.mjs", "maplibre-gl.css", "maplibre-gl.LICENSE.txt"}
    assert "MapLibre contributors" in (VENDOR / "maplibre-gl.LICENSE.txt").read_text(encoding="utf-8")
    assert "blob/v6.17.0/" in (VENDOR / "maplibre-gl.mjs").read_text(encoding="utf-8")[:300]
    axe = Path(__file__).parent
    assert "Mozilla Public License" in (axe / "axe.LICENSE.txt").read_text(encoding="utf-8")
    assert "axe v4.14.1" in (axe / "axe.min.js").read_text(encoding="utf-8")[:100]
