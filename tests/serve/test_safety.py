"""What the server refuses, whoever asks, and what its answers forbid a browser to do."""

import asyncio
import time
from pathlib import Path
from typing import Any

import hostile
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from served import encoded, serve
from starlette.exceptions import HTTPException

from rsretrieval import Retriever
from rsretrieval.serve import guard
from rsretrieval.serve.settings import LIMITS, ServeError, Settings

TOKEN = "a-long-token"


def test_headers_of_every_answer(archive: Path, retriever: Retriever, client: TestClient) -> None:
    with serve(archive, retriever, basemap="https://tiles.example.org:8443/{z}/{x}/{y}.png?a=b;c") as mapped:
        for place in ("/", "/api/search", "/api/items/x", "/static/nothing", "/api/search?k=0", "/openapi.json"):
            plain, other = client.get(place).headers, mapped.get(place).headers
            assert plain["x-content-type-options"] == "nosniff"
            assert plain["referrer-policy"] == "no-referrer"
            assert plain["cross-origin-opener-policy"] == plain["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in plain
            assert "server" not in plain
            rules = dict(part.strip().split(" ", 1) for part in plain["content-security-policy"].split(";"))
            assert rules == {
                "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "font-src": "'self'",
                "img-src": "'self' blob: data:", "connect-src": "'self'", "worker-src": "'self' blob:",
                "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
            }  # fmt: skip
            rules = dict(part.strip().split(" ", 1) for part in other["content-security-policy"].split(";"))
            assert rules["img-src"] == "'self' blob: data: https://tiles.example.org:8443"
            assert rules["connect-src"] == "'self' https://tiles.example.org:8443"
            assert rules["script-src"] == "'self'"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:8000", True), ("localhost", True), ("LOCALHOST.:80", True), ("[::1]:8000", True), ("[::1]", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("localhost:8000.evil.example", False), ("", False),
        ("10.0.0.7:8000", False), ("localhost@evil.example", False), ("evil.example:127.0.0.1", False),
    ],
)  # fmt: skip
def test_other_names_are_refused(client: TestClient, host: str, is_ours: bool) -> None:
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == (200 if is_ours else 421)
    assert is_ours or "error" in answer.json()


def test_names_of_a_server_for_others() -> None:
    open_to_all = Settings(host="0.0.0.0", token=TOKEN, names=("maps.example.org",))
    for host in ("10.0.0.7:8000", "[fe80::1]:80", "maps.example.org", "Maps.Example.org:443", "localhost:1"):
        assert open_to_all.answers_to(host), host
    assert not open_to_all.answers_to("evil.example")
    assert Settings(host="maps.example.org", token=TOKEN).answers_to("maps.example.org:8000")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "--token"),
        ({"host": "::"}, "--token"),
        ({"host": "192.168.0.5"}, "--token"),
        ({"host": "maps.example.org"}, "--token"),
        ({"token": "short"}, "8 letters"),
        ({"token": "with a space in it"}, "spaces"),
        ({"basemap": "https://tiles.example.org/tiles"}, "{z}/{x}/{y}"),
        ({"basemap": "javascript:alert(1)//{z}{x}{y}"}, "address of map tiles"),
        ({"basemap": "https://a.org; script-src *//{z}/{x}/{y}"}, "address of map tiles"),
        ({"basemap": "https://a'b/{z}/{x}/{y}"}, "address of map tiles"),
        ({"basemap": "https://user@a.org/{z}/{x}/{y}"}, "address of map tiles"),
        ({"basemap": "https://[/{z}/{x}/{y}"}, "address of map tiles"),
    ],
)  # fmt: skip
def test_settings_that_are_not_served(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ServeError, match=words.replace("{", "\\{")):
        Settings(**settings)  # type: ignore[arg-type]


def test_a_token_opens_the_archive(archive: Path, retriever: Retriever) -> None:
    with serve(archive, retriever, token=TOKEN) as client:
        others = ("Bearer wrong-token", f"Basic {TOKEN}", "Bearer é", TOKEN, "")
        for headers in ({}, {"Cookie": "rsretrieval=x"}, *({"Authorization": value} for value in others)):
            encoded_headers = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            for place in ("/", "/api/search", "/health", "/openapi.json", "/static/main.js", "/?token=wrong"):
                answer = client.get(place, headers=encoded_headers)
                assert (answer.status_code, list(answer.json())) == (401, ["error"])
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/api/search", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.post(f"/api/search?token={TOKEN}").status_code == 401
        page = client.get(f"/api/search?text=a%26b&token={TOKEN}&k=2")
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie + page.text
        assert 'url=/api/search?text=a%26b&amp;k=2"' in page.text
        assert client.get("/api/search?text=a%26b&k=2").status_code == 200  # by the cookie
        assert client.post("/api/search", files={"file": encoded(Image.new("RGB", (9, 9)))}).status_code == 200
        leading = client.get(f'//evil.example/%22%3E<script>?token={TOKEN}&a="><script>', follow_redirects=False)
        assert "//evil" not in leading.text
        assert "<script>" not in leading.text


def test_pages_of_other_sites_send_nothing(client: TestClient) -> None:
    picture = {"file": encoded(Image.new("RGB", (9, 9)))}
    refused = client.post("/api/search", files=picture, headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, list(refused.json())) == (403, ["error"])
    assert client.post("/api/search", files=picture, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.get("/health", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_hostile_uploads(client: TestClient, kind: str) -> None:
    for seed in range(1 if "," in kind else 3):
        content, began = hostile.upload(kind, seed), time.process_time()  # of the server, too
        answer = client.post("/api/search", files={"file": ("a.png", content, "image/png")}, data={"k": "2"})
        assert time.process_time() - began < 5
        if kind != "flipped":
            assert answer.status_code == (200 if kind in hostile.TAKEN else 400), answer.text
        assert answer.status_code in (200, 400)
        assert ("results" in answer.json()) == (answer.status_code == 200)
    assert client.get("/health").status_code == 200


def test_what_is_too_much_is_refused(client: TestClient) -> None:
    large = bytes(LIMITS.upload_bytes + guard.FORM_BYTES + 1)
    refused = client.post("/api/search", files={"file": large})
    assert (refused.status_code, "20 MiB" in refused.json()["error"]) == (413, True)

    def parts() -> Any:
        for _ in range(0, len(large), 2**20):
            yield large[: 2**20]

    streamed = client.post("/api/search", content=parts(), headers={"Content-Type": "multipart/form-data; boundary=a"})
    assert streamed.status_code in (400, 413)
    for length in ("-1", "1e9", "9" * 30):
        assert client.post("/api/search", headers={"Content-Length": length}).status_code == 413
    for form in ({"files": {"file": ("a", b""), "file2": ("b", b"")}}, {"data": {"file": "a"}}, {"data": {"k": "1"}}):
        assert client.post("/api/search", **form).status_code == 422
    assert client.post("/api/search", content=b"{}", headers={"Content-Type": "application/json"}).status_code == 422
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/api/search").status_code == 405


def test_a_slow_body_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append(await receive())
        with pytest.raises(HTTPException, match="longer than") as caught:
            await receive()
        sent.append(caught.value)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"host", b"localhost")], "query_string": b""}
    asyncio.run(guard.Guard(app, Settings())(scope, receive, None))  # type: ignore[arg-type]
    assert len(sent) == 2
    assert sent[1].status_code == 408
