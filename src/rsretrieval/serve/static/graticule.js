/** Meridians and parallels: what is under the footprints where there is no base map. */

const STEPS = [30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const LEAST = 4; // lines across the view
const POLE = 85; // where Mercator's maps end

/** Lines, as GeoJSON, of the widest step that has enough of them between two longitudes; the rest is beside the view. */
export function graticule([west, south, east, north]) {
  const step = STEPS.find((degrees) => (east - west) / degrees >= LEAST) ?? STEPS.at(-1);
  const [low, high] = [Math.max(south - step, -POLE), Math.min(north + step, POLE)];
  const [left, right] = [west - step, east + step];
  const multiples = (from, to) => {
    const first = Math.ceil(from / step);
    return Array.from({ length: Math.max(Math.floor(to / step) - first + 1, 0) }, (_, n) => (first + n) * step);
  };
  const lines = [
    ...multiples(left, right).map((lon) => [[lon, low], [lon, high]]),
    ...multiples(low, high).map((lat) => [[left, lat], [right, lat]]),
  ];
  return { type: "Feature", properties: {}, geometry: { type: "MultiLineString", coordinates: lines } };
}
