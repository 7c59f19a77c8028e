/** The map of the results: footprints coloured by score, the box, and a graticule or a base map. */

import { byId, placed } from "./dom.js";
import { graticule } from "./graticule.js";
import { boxText } from "./drawing.js";
import { boxOf } from "./filters.js";

const EMPTY = { type: "FeatureCollection", features: [] };
const HIT = ["fills", "centres"]; // layers that a pointer finds
const ROOM = { padding: 32, maxZoom: 17, duration: 400 };
const dark = matchMedia("(prefers-color-scheme: dark)");

const inks = () => (dark.matches
  ? { paper: "#1b2126", line: "#3a444d", edge: "#f2f5f7", strong: "#ffd166" }
  : { paper: "#eef1f4", line: "#c3cbd3", edge: "#1b2126", strong: "#b3261e" });

const when = (name, yes, no) => ["case", ["boolean", ["feature-state", name], false], yes, no];
const isStrong = (yes, no) => when("pointed", yes, when("picked", yes, no));

function styleOf(basemap) {
  const { paper, line, edge, strong } = inks();
  const source = (data = EMPTY, more = {}) => ({ type: "geojson", data, ...more });
  const host = basemap && new URL(basemap, location.href).host;
  return {
    version: 8,
    sources: {
      graticule: source(), box: source(), results: source(EMPTY, { promoteId: "key" }),
      ...(basemap && { basemap: { type: "raster", tiles: [basemap], tileSize: 256, maxzoom: 19, attribution: `Map: ${host}` } }),
    },
    layers: [
      { id: "paper", type: "background", paint: { "background-color": paper } },
      basemap ? { id: "basemap", type: "raster", source: "basemap" }
        : { id: "lines", type: "line", source: "graticule", paint: { "line-color": line } },
      { id: "fills", type: "fill", source: "results", filter: ["!=", ["geometry-type"], "Point"],
        paint: { "fill-color": ["get", "colour"], "fill-opacity": when("pointed", 0.85, 0.5) } },
      { id: "edges", type: "line", source: "results", filter: ["!=", ["geometry-type"], "Point"],
        paint: { "line-color": isStrong(strong, edge), "line-width": isStrong(3, 0.5) } },
      { id: "centres", type: "circle", source: "results", filter: ["==", ["geometry-type"], "Point"],
        paint: { "circle-color": ["get", "colour"], "circle-radius": when("pointed", 8, 4),
          "circle-stroke-color": isStrong(strong, edge), "circle-stroke-width": isStrong(2.5, 0.75) } },
      { id: "box", type: "line", source: "box", paint: { "line-color": edge, "line-width": 2, "line-dasharray": [3, 2] } },
    ],
  };
}

function feature(item, colour) {
  const shape = (geometry) => ({ type: "Feature", properties: { key: item.key, colour }, geometry });
  return [item.geometry && shape(item.geometry), item.centre && shape({ type: "Point", coordinates: item.centre })].filter(Boolean);
}

/** West, south, east, north around points; across the antimeridian east is above 180. Null without a point. */
export function around(points) {
  if (!points.length) return null;
  const lats = points.map(([, lat]) => lat);
  const span = (lons) => [Math.min(...lons), Math.max(...lons)];
  const plain = span(points.map(([lon]) => lon));
  const turned = span(points.map(([lon]) => (lon < 0 ? lon + 360 : lon)));
  const [west, east] = turned[1] - turned[0] < plain[1] - plain[0] ? turned : plain;
  return [west, Math.min(...lats), east, Math.max(...lats)];
}

const cornersOf = ({ geometry, centre }) => {
  const flat = geometry?.coordinates?.flat(Infinity) ?? centre ?? [];
  return Array.from({ length: flat.length / 2 }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);
};

export class ResultsMap {
  /** Open the map. `acts`: `point` (a key under the pointer, or null) and `choose` (a key that is clicked). */
  static async open(about, acts) {
    const maplibre = await import("./vendor/maplibre-gl.mjs");
    const map = new maplibre.Map({
      container: "map", style: styleOf(about.basemap), bounds: bounded(about.bounds), fitBoundsOptions: { padding: 32, maxZoom: 17 },
      attributionControl: about.basemap ? { compact: false } : false, pitchWithRotate: false, dragRotate: false, maxPitch: 0,
      locale: { "Map.Title": "Map of the results" },
    });
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.addControl(new maplibre.NavigationControl({ showCompass: false }));
    map.addControl(new maplibre.ScaleControl());
    await new Promise((go) => map.once("style.load", go));
    return new ResultsMap(map, acts);
  }

  constructor(map, acts) {
    Object.assign(this, { map, pointed: null, picked: [], home: null });
    const relined = () => map.getSource("graticule").setData(graticule(map.getBounds().toArray().flat()));
    map.on("moveend", relined);
    dark.addEventListener("change", () => this.#repaint());
    map.on("mousemove", (event) => {
      byId("pointer").textContent = placed(event.lngLat.wrap().toArray());
      const key = this.#under(event.point);
      map.getCanvas().style.cursor = key ? "pointer" : "";
      if (key !== this.pointed) acts.point(key);
    });
    map.on("mouseout", () => acts.point(null));
    map.on("click", (event) => {
      const key = this.#under(event.point);
      if (key) acts.choose(key);
    });
    relined();
  }

  /** Show results, best above; a new search brings all of them, or the box, into view. */
  show(items, colours, box, isMore) {
    const features = items.toReversed().flatMap((item) => feature(item, colours.get(item.key)));
    this.map.getSource("results").setData({ type: "FeatureCollection", features });
    const sides = box ? bounded(boxOf(box)) : null;
    this.map.getSource("box").setData(sides ? outline(sides) : EMPTY);
    if (isMore) return;
    this.home = sides ?? around(items.flatMap(cornersOf)) ?? this.home;
    this.fit();
  }

  /** All of the results into view. */
  fit() {
    this.map.resize();
    if (this.home && this.map.getContainer().clientWidth) this.map.fitBounds(this.home, ROOM);
  }

  /** Mark one result, and with a place to go to bring it into view. */
  point(key, centre = null) {
    if (this.pointed) this.#state(this.pointed, { pointed: false });
    if (key) this.#state(key, { pointed: true });
    this.pointed = key;
    if (key && centre && !this.map.getBounds().contains(centre)) this.map.easeTo({ center: centre });
  }

  /** Mark those that are selected. */
  mark(picked) {
    for (const key of this.picked) this.#state(key, { picked: picked.includes(key) });
    for (const key of picked) this.#state(key, { picked: true });
    this.picked = picked;
  }

  /** What is in view, as the text of a box. */
  view() {
    const [[west, south], [east, north]] = this.map.getBounds().toArray();
    return boxText(west, south, east, north);
  }

  #under(point) {
    return this.map.queryRenderedFeatures(point, { layers: HIT })[0]?.properties.key ?? null;
  }

  #state(key, state) {
    this.map.setFeatureState({ source: "results", id: key }, state);
  }

  #repaint() {
    for (const { id, paint } of styleOf(null).layers) {
      if (this.map.getLayer(id)) for (const [name, value] of Object.entries(paint)) this.map.setPaintProperty(id, name, value);
    }
  }
}

/** A box for MapLibre: east is above 180 where it lies across the antimeridian. */
function bounded(box) {
  const [west, south, east, north] = box ?? [];
  return box && [west, south, east < west ? east + 360 : east, north];
}

function outline([west, south, east, north]) {
  const ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  return { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring } };
}
