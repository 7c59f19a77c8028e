/** Scores as colours, the same on the cards and on the map: viridis without its darkest end. */

const STOPS = [[70, 50, 126], [39, 127, 142], [74, 193, 109], [253, 231, 37]];
const PLAIN = "rgb(39, 127, 142)"; // without a score

function shade(part) {
  const place = Math.min(Math.max(part, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const mixed = STOPS[low].map((from, n) => Math.round(from + (STOPS[low + 1][n] - from) * (place - low)));
  return `rgb(${mixed.join(", ")})`;
}

/** Key to colour, from the lowest of the scores to the highest. */
export function shades(items) {
  const scores = items.map((item) => item.score).filter((score) => score !== null);
  const low = Math.min(...scores);
  const span = Math.max(...scores) - low;
  const colour = ({ score }) => (score === null ? PLAIN : shade(span ? (score - low) / span : 1));
  return new Map(items.map((item) => [item.key, colour(item)]));
}
