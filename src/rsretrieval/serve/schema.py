"""What the API is asked and what it answers, as OpenAPI describes it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from rsretrieval.serve.settings import LIMITS

Sentence = Annotated[str, StringConstraints(max_length=LIMITS.text)]
Key = Annotated[str, StringConstraints(max_length=4096)]
Point = Annotated[list[float], Field(min_length=2, max_length=2, description="longitude and latitude")]
Sides = Annotated[list[float], Field(min_length=4, max_length=4, description="west, south, east, north in degrees")]
Pixels = Annotated[list[int], Field(min_length=4, max_length=4, description="left, top, right, bottom in pixels")]
Days = Annotated[list[str], Field(min_length=2, max_length=2, description="the first and the last")]
TERMS = ("text", "against", "like", "unlike", "picture")


class Terms(BaseModel):
    """What is looked for, and what is not."""

    model_config = ConfigDict(extra="forbid")

    text: list[Sentence] = Field(default=[], description="sentences that describe it")
    against: list[Sentence] = Field(default=[], alias="not", description="sentences that describe what it is not")
    like: list[Key] = Field(default=[], description="keys of rows that show it")
    unlike: list[Key] = Field(default=[], description="keys of rows that show what it is not")
    picture: list[Key] = Field(default=[], description="pictures of it, as POST /api/search names them")

    @model_validator(mode="after")
    def _few(self) -> Self:
        count = sum(len(getattr(self, name)) for name in TERMS)
        if count > LIMITS.terms:
            raise ValueError(f"a query has up to {LIMITS.terms} terms, not {count}: leave some out")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is looked for; what is not wanted can only be taken from something."""
        return not (self.text or self.like or self.picture)


class Search(Terms):
    """A search: terms, which rows may answer, and how many."""

    scene: list[Key] = Field(default=[], max_length=LIMITS.terms, description="names of scenes, any of them")
    since: date | None = Field(default=None, alias="from", description="first day, in UTC")
    to: date | None = Field(default=None, description="last day, in UTC")
    box: str | None = Field(default=None, max_length=200, description="west,south,east,north in degrees")
    min_z: float | None = Field(default=None, allow_inf_nan=False, description="least z of an answer")
    k: int = Field(default=40, ge=1, le=LIMITS.k, description="answers at once")
    offset: int = Field(default=0, ge=0, le=10**9, description="rank of the first, from 0; what `next` said")


class PictureSearch(Search):
    """A search by a picture."""

    file: UploadFile = Field(description="JPEG, PNG, WebP, GIF, BMP or TIFF of 8 bits")


class Export(Search):
    """The answers to a search, or chosen rows, as a file."""

    format: Literal["geojson", "csv", "png"]
    key: list[Key] = Field(
        default=[],
        max_length=LIMITS.k,
        description="chosen rows, which alone are ranked by the terms; filters, k and offset are of no effect then",
    )


class Item(BaseModel):
    """A row of the archive."""

    key: str = Field(description="id in base64url, for addresses")
    id: str
    source: str
    score: float | None
    z: float | None
    datetime: str | None
    scene: str | None
    captions: list[str] | None
    geometry: dict[str, Any] | None
    centre: Point | None
    width: int
    height: int


class Detail(Item):
    """A row with what is like it."""

    neighbours: list[Item]
    pixel_bbox: Pixels
    heatmap: bool
    heatmap_reason: str | None


class Answers(BaseModel):
    """What a search found."""

    results: list[Item]
    total: int
    next: int | None
    best_z: float | None
    nothing_matches: bool
    message: str | None


class PictureAnswers(Answers):
    """What a search by a picture found, and the picture as a term of another search."""

    picture: str


class About(BaseModel):
    """The archive."""

    title: str
    rows: int
    model: str
    index: str
    scenes: dict[str, int]
    dates: Days | None
    bounds: Sides | None
    captions: bool
    basemap: str | None
    limits: dict[str, int]
    z: bool


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"
    rows: int
    model: str
    index: str
    version: str


class Refusal(BaseModel):
    """Why a request is not answered, and what to do."""

    error: str
