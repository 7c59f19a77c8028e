"""The page in a real browser, against a real server: what a reader does, and what the page must never do."""

import base64
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import HOSTILE, ROWS, encoded, running

from rsretrieval import Retriever

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]
AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PATIENCE = 60  # seconds, for a busy machine
WIDE, NARROW = {"width": 1600, "height": 900}, {"width": 400, "height": 800}
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU
MAP = "(await import('/static/main.js')).mapShown()"
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """Opens the page at ``?QUERY``. In the end none may have had an error, or have asked another server."""
    contexts, wrong = [], []
    allowed: list[str] = []

    def open_(
        query: str = "",
        *,
        at: str = address,
        allow: tuple[str, ...] = (),
        before: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Any:
        own = (at, "blob:", "data:")
        context = browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **options})
        contexts.append(context)
        allowed.extend(allow)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: wrong.append(f"an error: {error}"))
        page.on("console", lambda said: wrong.extend([said.text] if said.type in ("error", "warning") else []))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda asked: wrong.extend([] if asked.url.startswith(own) else [f"asks {asked.url}"]))
        if before:
            before(page)
        page.goto(f"{at}/{query and '?'}{query}")
        settled(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [words for words in wrong if not any(part in words for part in allowed)] == []


def settled(page: Any) -> None:
    """Wait for the answer to what was done last."""
    page.wait_for_timeout(30)
    page.wait_for_selector("#found[aria-busy=false]")


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Wait until an asynchronous function is true; playwright's own way takes its promise for that."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(30)


def mapped(page: Any) -> None:
    """Wait for the map and what is on it."""
    until(page, f"async () => {{ const map = {MAP}; return map && map.map.areTilesLoaded() && !map.map.isMoving(); }}")


def keys(page: Any) -> list[str]:
    """Of the cards, in order."""
    found: list[str] = page.locator(".card").evaluate_all("cards => cards.map((card) => card.dataset.key)")
    return found


def id_of(key: str) -> str:
    return base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode()


def chips(page: Any) -> list[str]:
    """What a reader of the screen hears of them."""
    return [" ".join(text.split()) for text in page.locator("#chips .unseen").all_text_contents()]


def parameters(page: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = (
        page.evaluate("""() => { const all = {}; for (const [name, value] of new URLSearchParams(location.search))
        (all[name] ??= []).push(value); return all; }""")
    )
    return found


def asked(client: Any, query: str) -> dict[str, Any]:
    """What the API answers, without the page."""
    answer: dict[str, Any] = client.get(f"/api/search?{query}").json()
    return answer


def find(page: Any, text: str) -> None:
    page.fill("#box", text)
    page.press("#box", "Enter")
    settled(page)


def test_a_search_by_text_shows_what_the_api_answers_and_stands_in_the_address(opened: Open, client: Any) -> None:
    page = opened()
    assert page.inner_text("#status") == f"{ROWS} rows, in the archive's order"
    find(page, "two planes")
    answer = asked(client, "text=two+planes")
    assert keys(page) == [item["key"] for item in answer["results"]]
    assert parameters(page) == {"text": ["two planes"]}
    assert chips(page) == ["looked for:"]
    assert page.title() == "two planes · Test"
    first = page.locator(".card").first
    assert f"1. {answer['results'][0]['score']:.3f}" in first.text_content()
    assert f"{abs(answer['results'][0]['z']):.1f}" in first.text_content()
    shared = opened(page.url.partition("?")[2])
    assert keys(shared) == keys(page)
    assert shared.input_value("#box") == "two planes"
    page.go_back()
    settled(page)
    assert parameters(page) == {}
    assert page.input_value("#box") == ""


def test_terms_add_up_and_are_taken_out(opened: Open, client: Any) -> None:
    page = opened("text=two+planes")
    page.fill("#box", "a harbour")
    page.click("#add")
    page.fill("#box", "many trees")
    page.click("#not")
    settled(page)
    assert parameters(page) == {"text": ["two planes", "a harbour"], "not": ["many trees"]}
    assert keys(page) == [
        item["key"] for item in asked(client, "text=two+planes&text=a+harbour&not=many+trees")["results"]
    ]
    page.get_by_role("button", name="Take out: looked for: two planes").click()
    settled(page)
    assert parameters(page) == {"text": ["a harbour"], "not": ["many trees"]}
    assert page.evaluate("document.activeElement.id") == "box"
    page.fill("#box", "half a thou")
    page.get_by_role("button", name="More like result 1", exact=True).click()
    settled(page)
    assert page.input_value("#box") == "half a thou"  # what is typed stays
    find(page, "a road")  # begins anew
    assert parameters(page) == {"text": ["a road"]}


def test_more_and_less_like_a_result(opened: Open, client: Any) -> None:
    page = opened("text=two+planes")
    one, two = keys(page)[3:5]
    page.get_by_role("button", name="More like result 4", exact=True).click()
    settled(page)
    page.locator(f".card[data-key='{two}']").get_by_role("button", name="Less like").click()
    settled(page)
    assert parameters(page) == {"text": ["two planes"], "like": [one], "unlike": [two]}
    answer = asked(client, f"text=two+planes&like={one}&unlike={two}")
    assert keys(page) == [item["key"] for item in answer["results"]]
    names = page.locator("#chips button[aria-label]").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert names[1:] == [f"Take out: more like {id_of(one)}", f"Take out: less like {id_of(two)}"]
    page.locator(f".card[data-key='{two}']").get_by_role("button", name="More like").click()  # thought better of
    settled(page)
    assert parameters(page) == {"text": ["two planes"], "like": [one, two]}
    page.reload()
    settled(page)
    assert len(chips(page)) == 3
    page.click("#clear")
    settled(page)
    assert parameters(page) == {}


GIVE = """([content, way]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "seen.png", { type: "image/png" }));
  const event = way === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent(way, { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_finds_itself_and_its_search_can_be_shared(opened: Open, client: Any, way: str) -> None:
    wanted = asked(client, "k=200")["results"][5]["key"]
    picture = client.get(f"/api/items/{wanted}/image").content
    content = encoded(Image.open(io.BytesIO(picture)))
    page = opened()
    posts = []
    page.on("request", lambda request: posts.append(request.url) if "/api/search" in request.url else None)
    if way == "choose":
        page.set_input_files("#file", {"name": "seen.png", "mimeType": "image/png", "buffer": content})
    else:
        if way == "drop":
            page.evaluate(GIVE, [base64.b64encode(content).decode(), "dragover"])
            assert page.is_visible("#drop")
        page.evaluate(GIVE, [base64.b64encode(content).decode(), way])
    page.wait_for_selector("#chips img[alt='your picture']")
    settled(page)
    assert not page.is_visible("#drop")
    assert len(posts) == 1  # the answer is not asked for a second time
    assert keys(page)[0] == wanted
    (token,) = parameters(page)["picture"]
    shared = opened(page.url.partition("?")[2])
    assert keys(shared) == keys(page)
    assert shared.inner_text(".chip span:not(.sign, .unseen)") == "your picture"
    assert len(token) < 1500


def test_a_file_that_is_no_picture_is_refused_in_words(opened: Open) -> None:
    page = opened(allow=("status of 4",))
    before = keys(page)
    page.set_input_files(
        "#file", {"name": "seen.svg", "mimeType": "image/svg+xml", "buffer": b"<svg onload='alert(1)'/>"}
    )
    page.wait_for_selector("#message:visible")
    assert "cannot be read as JPEG, PNG" in page.inner_text("#message")
    assert keys(page) == before
    assert parameters(page) == {}
    find(page, "two planes")
    assert not page.is_visible("#message")


def test_filters_narrow_and_what_is_left_of_nothing_is_explained(opened: Open, client: Any) -> None:
    page = opened("text=two+planes")
    page.select_option("[name=scene]", "harbour")
    settled(page)
    assert {id_of(key).partition("_")[0] for key in keys(page)} == {"harbour"}
    page.select_option("[name=scene]", "")
    page.fill("[name=from]", "2024-03-05")
    page.fill("[name=to]", "2024-03-31")
    settled(page)
    assert len(keys(page)) == 36  # the tiles; pictures are of April, rows of the table of no day
    page.fill("[name=box]", "10,10,11,11")
    page.press("[name=box]", "Enter")
    settled(page)
    assert keys(page) == []
    assert page.inner_text("#message").startswith("No row lies within the filters")
    assert parameters(page) == {
        "text": ["two planes"],
        "from": ["2024-03-05"],
        "to": ["2024-03-31"],
        "box": ["10,10,11,11"],
    }
    page.click("#unfilter")
    settled(page)
    assert len(keys(page)) == 40
    assert not page.is_visible("#message")
    page.fill("[name=box]", "10,10,11")
    page.press("[name=box]", "Enter")
    assert page.locator("[name=box]").evaluate("field => field.validationMessage").startswith("Give west, south, east")
    page.fill("[name=box]", "")
    page.fill("[name=min_z]", "1000")
    page.press("[name=min_z]", "Enter")
    settled(page)
    assert page.inner_text("#message").startswith("No answer has a z of 1000")


def test_nothing_here_matches_is_said_plainly(opened: Open, client: Any) -> None:
    answer = asked(client, "text=two+planes") | {
        "nothing_matches": True,
        "best_z": 1.2,
        "message": "Nothing here matches: it is so.",
    }
    page = opened(
        "text=two+planes", before=lambda page: page.route("**/api/search?*", lambda route: route.fulfill(json=answer))
    )
    assert page.inner_text("#status") == "Nothing here matches: it is so. The nearest:"
    assert page.locator("#status").evaluate("node => getComputedStyle(node).fontWeight") == "700"
    assert len(keys(page)) == 40


def test_an_empty_archive_is_explained(opened: Open, client: Any) -> None:
    about = client.get("/api/archive").json() | {"rows": 0, "scenes": {}, "dates": None, "bounds": None, "z": False}
    nothing = {
        "results": [],
        "total": 0,
        "next": None,
        "best_z": None,
        "nothing_matches": False,
        "message": "The archive has no rows: embed.",
    }

    def empty(page: Any) -> None:
        page.route("**/api/archive", lambda route: route.fulfill(json=about))
        page.route("**/api/search?*", lambda route: route.fulfill(json=nothing))

    page = opened(before=empty)
    assert page.inner_text("#message") == "The archive has no rows: embed."
    assert page.locator("#for-scene, #for-dates, #for-box, #for-z, #place, #export").evaluate_all(
        "all => all.every((one) => one.hidden)"
    )


def test_scrolling_brings_the_rest(opened: Open, client: Any) -> None:
    page = opened("text=two+planes")
    assert len(keys(page)) == 40
    page.locator("#found").evaluate("node => node.scrollTo(0, node.scrollHeight)")
    page.wait_for_function(f"() => document.querySelectorAll('.card').length === {ROWS}")
    assert keys(page) == [item["key"] for item in asked(client, "text=two+planes&k=200")["results"]]
    assert page.is_hidden("#more")
    tall = opened("text=two+planes", viewport={"width": 1600, "height": 3000})  # the end is in sight all the time
    tall.wait_for_function(f"() => document.querySelectorAll('.card').length === {ROWS}")


def test_a_box_drawn_on_the_map_narrows_the_search(opened: Open) -> None:
    page = opened("text=two+planes")
    mapped(page)
    west, south, east, north = page.evaluate(f"async () => {MAP}.home")
    page.click("#draw")
    corner = page.evaluate(f"async ([lon, lat]) => {MAP}.map.project([lon, lat])", [west, north])
    middle = page.evaluate(
        f"async ([lon, lat]) => {MAP}.map.project([lon, lat])", [(west + east) / 2, (south + north) / 2]
    )
    left, top = (page.locator("#map").bounding_box()[side] for side in ("x", "y"))
    page.mouse.move(left + corner["x"] - 5, top + corner["y"] - 5)
    page.mouse.down()
    page.mouse.move(left + middle["x"] - 3, top + middle["y"] - 3, steps=4)
    page.mouse.up()
    settled(page)
    mapped(page)
    (box,) = parameters(page)["box"]
    drawn = [float(side) for side in box.split(",")]
    assert drawn[0] < west < drawn[2] < (west + east) / 2
    assert (south + north) / 2 < drawn[1] < north < drawn[3]
    assert len(keys(page)) == 9  # a quarter of 36 tiles
    assert page.input_value("[name=box]") == box
    assert page.get_attribute("#draw", "aria-pressed") == "false"
    assert page.locator(".sheet").count() == 0
    page.click("#draw")
    page.keyboard.press("Escape")
    assert page.locator(".sheet").count() == 0
    page.click("#view")
    settled(page)
    assert parameters(page)["box"] != [box]


def test_results_and_map_follow_each_other(opened: Open) -> None:
    page = opened("text=two+planes")
    mapped(page)
    tile = next(key for key in keys(page) if "#" in id_of(key))
    state = f"async (key) => {MAP}.map.getFeatureState({{ source: 'results', id: key }})"
    is_pointed = f"async ([key, is]) => {MAP}.map.getFeatureState({{ source: 'results', id: key }}).pointed === is"
    page.locator(f".card[data-key='{tile}']").hover()
    until(page, is_pointed, [tile, True])
    page.mouse.move(5, 5)
    until(page, is_pointed, [tile, False])
    features = f"{MAP}.map.querySourceFeatures('results').map((one) => one.properties)"
    until(page, f"async ([key]) => {features}.some((one) => one.key === key)", [tile])  # its square is drawn
    colours = page.evaluate(f"async () => {features}")
    shade = page.locator(f".card[data-key='{tile}']").evaluate("card => card.style.getPropertyValue('--shade')")
    assert {one["colour"] for one in colours if one["key"] == tile} == {shade}
    assert len({one["colour"] for one in colours}) > 10
    other = [key for key in keys(page) if "#" in id_of(key)][-1]
    place = page.evaluate(f"""async (key) => {{ const map = {MAP}.map;
        const points = map.querySourceFeatures("results").filter((one) => one.geometry.type === "Point");
        const point = points.find((one) => one.properties.key === key);
        return map.project(point.geometry.coordinates); }}""", other)  # fmt: skip
    left, top = (page.locator("#map").bounding_box()[side] for side in ("x", "y"))
    page.mouse.move(left + place["x"], top + place["y"])
    page.wait_for_selector(f".card.pointed[data-key='{other}']")
    page.mouse.click(left + place["x"], top + place["y"])
    page.wait_for_function("(key) => document.activeElement.closest('.card')?.dataset.key === key", arg=other)
    page.keyboard.press("s")
    assert page.evaluate(state, other) == {"pointed": True, "picked": True}
    page.keyboard.press("s")
    assert page.evaluate(state, other)["picked"] is False
    assert page.evaluate("""() => { const { top, bottom } = document.activeElement.getBoundingClientRect();
        return top >= 0 && bottom <= innerHeight + 20; }""")  # fmt: skip


def test_a_base_map_is_drawn_and_nothing_else_is_asked(opened: Open, archive: Path, retriever: Retriever) -> None:
    tiles = []

    def tile(route: Any) -> None:
        tiles.append(route.request.url)
        picture = encoded(Image.new("RGB", (256, 256), (200, 30, 30)))
        route.fulfill(body=picture, headers={"Content-Type": "image/png", "Access-Control-Allow-Origin": "*"})

    with running(archive, retriever, basemap="http://tiles.example/{z}/{x}/{y}.png") as place:
        page = opened("text=two+planes", at=place, allow=("asks http://tiles.example/",),
                      before=lambda page: page.route("http://tiles.example/**", tile))  # fmt: skip
        mapped(page)
        until(page, f"async () => {MAP}.map.isSourceLoaded('basemap')")
        assert tiles
        assert page.evaluate(f"async () => Boolean({MAP}.map.getLayer('lines'))") is False
        assert "Map: tiles.example" in page.inner_text("#map")
        assert serious(page) == []
        page.close()  # before its server


def test_a_token_is_needed_once(opened: Open, archive: Path, retriever: Retriever) -> None:
    with running(archive, retriever, token="an-open-secret") as place:
        page = opened("token=an-open-secret&text=two+planes", at=place)
        page.wait_for_selector(".card")
        assert parameters(page) == {"text": ["two planes"]}
        page.reload()
        settled(page)
        assert len(keys(page)) == 40
        page.close()


def test_what_the_modules_compute(opened: Open) -> None:
    page = opened()
    call = "async ([file, name, given]) => (await import(`/static/${file}.js`))[name](...given)"

    def computed(file: str, name: str, *given: Any) -> Any:
        return page.evaluate(call, [file, name, given])

    assert computed("drawing", "boxText", 370, -95, 380.1234567, 10) == "10,-90,20.123457,10"
    assert computed("drawing", "boxText", 179, 0, 181, 1) == "179,0,-179,1"
    assert computed("drawing", "boxText", -300, 0, 100, 1) == "-180,0,180,1"
    assert computed("filters", "boxOf", "179, 0,-179,1") == [179, 0, -179, 1]  # across the antimeridian
    for wrong in ("1,2,3", "1,2,3,x", "1,5,2,4", "181,0,190,1", "1,,2,3", "0,0,1,91"):
        assert computed("filters", "boxOf", wrong) is None
    assert computed("map", "around", [[179, 1], [-179, 3]]) == [179, 1, 181, 3]
    assert computed("map", "around", [[2, 48], [3, 47]]) == [2, 47, 3, 48]
    assert computed("map", "around", []) is None
    lines = computed("graticule", "graticule", [2.0, 48.0, 2.9, 48.5])["geometry"]["coordinates"]
    assert [2.4, 2.4] in [[round(lon, 9) for lon, _ in line] for line in lines]
    assert 6 <= len(lines) <= 16  # every 0.2 degrees
    assert len(computed("graticule", "graticule", [-180, -85, 180, 85])["geometry"]["coordinates"]) < 30
    assert computed("dom", "placed", [-0.5, -33.25], 2) == "33.25\u00b0 S, 0.50\u00b0 W"
    assert computed("dom", "idOf", "YS9iLnRpZiMwLDAsOSw5") == "a/b.tif#0,0,9,9"
    assert computed("dom", "idOf", "***") == "***"


def test_the_page_without_webgl_still_searches(opened: Open) -> None:
    script = "HTMLCanvasElement.prototype.getContext = () => null"
    page = opened("text=two+planes", allow=("WebGL", "webgl"), before=lambda page: page.add_init_script(script))
    page.wait_for_function("() => document.getElementById('map').textContent.includes('The map is not shown')")
    assert len(keys(page)) == 40


def test_one_result_with_its_heat_map_captions_and_neighbours(opened: Open, client: Any) -> None:
    page = opened("text=two+planes")
    wanted = next(key for key in keys(page) if id_of(key).startswith("table.parquet"))
    page.locator(f".card[data-key='{wanted}'] .open").click()
    over = page.locator("dialog .over")
    over.wait_for(state="visible")
    assert parameters(page) == {"text": ["two planes"], "item": [wanted]}
    assert over.evaluate("image => image.complete && image.naturalWidth > 0")
    assert over.evaluate("image => image.style.opacity") == "0.6"
    page.locator("dialog [type=range]").fill("25")
    assert over.evaluate("image => image.style.opacity") == "0.25"
    said = client.get(f"/api/items/{wanted}").json()
    assert page.locator(".captions li").all_inner_texts() == said["captions"]
    assert page.locator("dialog .neighbours li").count() == len(said["neighbours"]) == 8
    assert page.locator("dialog h2").inner_text() == id_of(wanted)
    assert "64 \u00d7 64 pixels" in page.inner_text(".facts")
    page.locator("dialog .heat input:not([type=range])").fill("a harbour")
    page.locator("dialog .heat button").click()
    page.wait_for_selector("dialog .over[alt='Heat map: where “a harbour” is']:visible")
    assert page.locator("dialog summary").count() == 0  # a whole picture has no surroundings
    page.locator("dialog .neighbours a").first.click()
    page.wait_for_function(
        "(id) => document.querySelector('dialog h2').textContent === id", arg=said["neighbours"][0]["id"]
    )
    page.go_back()
    page.wait_for_function("(id) => document.querySelector('dialog h2').textContent === id", arg=id_of(wanted))
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('item=')")
    assert parameters(page) == {"text": ["two planes"]}


def test_a_tile_in_its_scene_and_a_shared_address_of_it(opened: Open, client: Any) -> None:
    tile = next(item for item in asked(client, "k=200")["results"] if item["centre"])
    page = opened(f"item={tile['key']}")
    page.wait_for_selector("dialog .facts")
    lon, lat = tile["centre"]
    assert f"{lat:.5f}° N, {lon:.5f}° E" in page.inner_text(".facts")
    assert "2024-03-05" in page.inner_text(".facts")
    page.locator("dialog summary").click()
    page.locator(".surroundings img").wait_for()
    small = page.locator(".surroundings img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    page.locator(".surroundings select").select_option("4")
    page.wait_for_function(f"() => (document.querySelector('.surroundings img')?.naturalWidth ?? 0) > {small}")
    page.click("dialog >> text=Close")
    page.wait_for_function("() => !location.search.includes('item=')")
    assert parameters(page) == {}
    lost = opened("item=bm9uZQ", allow=("status of 404",))
    assert lost.locator("dialog [role=alert]").inner_text()


def test_by_keys_alone(opened: Open) -> None:
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("two planes")
    page.keyboard.press("Enter")
    settled(page)
    shown = keys(page)
    focused = "() => document.activeElement.closest('.card')?.dataset.key"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == shown[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == shown[1]
    page.keyboard.press("ArrowDown")
    below = page.evaluate(focused)
    assert shown.index(below) == 1 + page.evaluate("""() => {
        const cards = [...document.querySelectorAll(".card")];
        return cards.filter((card) => card.offsetTop === cards[0].offsetTop).length; }""")  # fmt: skip
    page.keyboard.press("s")
    assert parameters(page)["pick"] == [below]
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog .facts")
    page.keyboard.press("ArrowRight")
    after = shown[shown.index(below) + 1]
    page.wait_for_function("(id) => document.querySelector('dialog h2').textContent === id", arg=id_of(after))
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('item=')")
    page.wait_for_function("(key) => document.activeElement.closest('.card')?.dataset.key === key", arg=after)
    page.keyboard.press("m")
    settled(page)
    assert parameters(page)["like"] == [after]
    assert page.evaluate(focused) == after  # it is still there, wherever it is now
    page.keyboard.press("Home")
    first = page.evaluate(focused)
    page.keyboard.press("l")
    settled(page)
    assert parameters(page)["unlike"] == [first]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) is not None  # the buttons of the one card are in the order of Tab
    for _ in range(6):
        page.keyboard.press("Tab")
    assert page.evaluate(focused) is None  # and those of others are not


def test_captions_and_names_are_texts(opened: Open, client: Any) -> None:
    page = opened("scene=table+%3Cb%3Escene%3C%2Fb%3E&text=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&not=%3Cb%3E")
    assert len(keys(page)) == 6
    assert page.locator(".chip b, .chip img, .card b, .card script, #status b, option b").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#chips")
    page.locator(".card .open").first.click()
    page.wait_for_selector(".captions")
    assert HOSTILE in page.locator(".captions li").all_inner_texts()
    assert "table <b>scene</b>" in page.inner_text(".facts")
    assert page.locator("dialog script, .captions img, .facts b").count() == 0
    assert "owned" not in page.title()


def test_what_is_selected_is_exported(opened: Open) -> None:
    page = opened("text=two+planes")
    with page.expect_download() as saved:
        page.locator("#export >> text=CSV").click()
    assert saved.value.suggested_filename == "answers.csv"
    assert len(Path(saved.value.path()).read_text().splitlines()) == 41
    chosen = [keys(page)[place] for place in (2, 5)]
    for key in chosen:
        page.locator(f".card[data-key='{key}'] [type=checkbox]").check()
    assert page.inner_text("#export span") == "Export 2 selected rows:"
    with page.expect_download() as saved:
        page.locator("#export >> text=GeoJSON").click()
    features = json.loads(Path(saved.value.path()).read_text())["features"]
    assert [feature["properties"]["id"] for feature in features] == [id_of(key) for key in chosen]
    with page.expect_download() as saved:
        page.locator("#export >> text=PNG").click()
    assert Image.open(saved.value.path()).width > 400
    page.reload()
    settled(page)
    assert page.locator(".card :checked").count() == 2
    page.click("text=Select none")
    assert page.locator(".card :checked").count() == 0


def test_a_busy_server_is_asked_again_and_a_refusal_is_shown(opened: Open, client: Any) -> None:
    page = opened(allow=("503", "status of 400", "ERR_FAILED"))
    tries = []

    def busy(route: Any) -> None:
        tries.append(route)
        if len(tries) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy"})
        else:
            route.continue_()

    page.route("**/api/search?*", busy)
    find(page, "two planes")
    assert len(tries) == 2
    assert parameters(page) == {"text": ["two planes"]}
    assert len(keys(page)) == 40
    page.unroute("**/api/search?*")
    page.route("**/api/search?*", lambda route: route.fulfill(status=400, json={"error": "Do <b>this</b>."}))
    find(page, "a harbour")
    assert page.inner_text("#message") == "Do <b>this</b>."
    assert keys(page) == []  # those of the query before are not this one's
    page.unroute("**/api/search?*")
    page.route("**/api/search?*", lambda route: route.abort())
    find(page, "a road")
    assert page.inner_text("#message") == "The server does not answer. Is it still running?"


def serious(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2 A and AA, of any impact."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })")
    assert found["passes"]
    return [
        f"{one['id']} ({one['impact']}): {[node['html'][:150] for node in one['nodes']]}" for one in found["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everyone_can_use_it_at_every_width_in_both_schemes(
    opened: Open, client: Any, scheme: str, size: dict[str, int]
) -> None:
    one, two = [item["key"] for item in asked(client, "k=2")["results"]]
    page = opened(
        f"text=two+planes&not=a+road&like={one}&unlike={two}&pick={one}&from=2024-03-01",
        color_scheme=scheme,
        viewport=size,
    )
    if size is NARROW:
        assert not page.is_visible("#map")
        page.click("#show-map")
    mapped(page)
    page.click("#keys summary")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    assert serious(page) == []
    dark = scheme == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 23, 27)" if dark else "rgb(255, 255, 255)"
    )
    paper = page.evaluate(f"async () => {MAP}.map.getPaintProperty('paper', 'background-color')")
    assert paper == ("#1b2126" if dark else "#eef1f4")
    page.click("#keys summary")
    page.locator(".card .open").first.click()
    page.wait_for_selector("dialog .over:visible")
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= innerWidth")
    assert page.evaluate(fits)
    assert serious(page) == []
    if size is WIDE and not dark:
        page.emulate_media(color_scheme="dark")
        until(page, f"async () => {MAP}.map.getPaintProperty('paper', 'background-color') === '#1b2126'")


def test_it_stands_still_for_who_wants_that(opened: Open) -> None:
    page = opened("text=two+planes")
    mapped(page)
    assert page.evaluate("document.getAnimations().length") == 0
    assert (
        page.evaluate(
            f"async () => {{ const map = {MAP}; map.map.jumpTo({{ zoom: 5 }}); map.fit(); return map.map.isMoving(); }}"
        )
        is False
    )
