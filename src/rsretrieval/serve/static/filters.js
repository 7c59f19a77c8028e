/** Scene, dates, box and z: what is left out before the search. */

import { byId, counted, el } from "./dom.js";
import { isFiltered, NO_FILTERS } from "./state.js";

const HINT = "Give west, south, east and north in degrees, such as 2.2,48.8,2.4,48.9.";

/** Four numbers of a text, or null. West above east crosses the antimeridian. */
export function boxOf(text) {
  const parts = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  const [west, south, east, north] = parts;
  const isThere = parts.length === 4 && parts.every(Number.isFinite) && south <= north;
  return isThere && [west, east].every((lon) => Math.abs(lon) <= 180) && [south, north].every((lat) => Math.abs(lat) <= 90) ? parts : null;
}

/** The fields that the archive has something for. */
export function startFilters(about, store) {
  const form = byId("filters");
  const { scene, from, to, box, min_z: least } = form.elements;
  const scenes = Object.entries(about.scenes);
  scene.append(...scenes.map(([name, count]) => el("option", { value: name }, `${name} (${counted(count)})`)));
  byId("for-scene").hidden = !scenes.length;
  byId("for-dates").hidden = !about.dates;
  byId("for-box").hidden = !about.bounds;
  byId("for-z").hidden = !about.z;
  for (const field of about.dates ? [from, to] : []) [field.min, field.max] = about.dates.map((date) => date.slice(0, 10));
  const wide = matchMedia("(min-width: 56.01rem)"); // as in style.css, where they cannot be folded
  const unfold = () => (byId("narrowing").open ||= wide.matches);
  unfold();
  wide.addEventListener("change", unfold);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    box.setCustomValidity(box.value === "" || boxOf(box.value) ? "" : HINT);
    if (target.reportValidity()) store.set({ [target.name]: target.value });
  });
  box.addEventListener("input", () => box.setCustomValidity(""));
  byId("unfilter").addEventListener("click", () => store.set(NO_FILTERS));
  return { scene, from, to, box, min_z: least };
}

/** A state's filters in the fields. */
export function showFilters(state, fields) {
  for (const [name, field] of Object.entries(fields)) {
    field.value = state[name];
    if (state[name] && field.value !== state[name] && field.tagName === "SELECT") {
      field.append(el("option", { value: state[name] }, state[name])); // an address may name what is not there
      field.value = state[name];
    }
  }
  fields.box.setCustomValidity("");
  byId("unfilter").hidden = !isFiltered(state);
  if (isFiltered(state)) byId("narrowing").open = true;
}
