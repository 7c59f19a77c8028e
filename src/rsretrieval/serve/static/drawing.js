/** A box drawn over the map, by mouse, pen or finger. */

import { el } from "./dom.js";

const LEAST = 4; // pixels; less is a click

const rounded = (degrees) => Number(degrees.toFixed(6));
const wrapped = (lon) => rounded(((((lon + 180) % 360) + 360) % 360) - 180);

/** The text of a box from two corners in degrees; longitudes of any turn around the earth. */
export function boxText(west, south, east, north) {
  const [low, high] = [Math.max(south, -90), Math.min(north, 90)].map(rounded);
  return (east - west >= 360 ? [-180, low, 180, high] : [wrapped(west), low, wrapped(east), high]).join(",");
}

/** Lay a sheet over the map that the next drag draws on; gives what takes it away again. */
export function draw(map, done) {
  const rubber = el("div", { class: "rubber", hidden: true });
  const sheet = el("div", { class: "sheet", "aria-hidden": "true" }, rubber);
  let start = null;
  const placeOf = (event) => {
    const { left, top, width, height } = sheet.getBoundingClientRect();
    return [Math.min(Math.max(event.clientX - left, 0), width), Math.min(Math.max(event.clientY - top, 0), height)];
  };
  const sides = (event) => placeOf(event).map((end, axis) => [Math.min(start[axis], end), Math.max(start[axis], end)]);
  sheet.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    sheet.setPointerCapture(event.pointerId);
    start = placeOf(event);
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [[left, right], [top, bottom]] = sides(event);
    rubber.hidden = false;
    Object.assign(rubber.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  });
  sheet.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [[left, right], [top, bottom]] = sides(event);
    [start, rubber.hidden] = [null, true];
    if (right - left < LEAST || bottom - top < LEAST) return;
    const [from, to] = [map.unproject([left, bottom]), map.unproject([right, top])];
    done(boxText(from.lng, from.lat, to.lng, to.lat));
  });
  sheet.addEventListener("pointercancel", () => ([start, rubber.hidden] = [null, true]));
  map.getContainer().append(sheet);
  return () => sheet.remove();
}
