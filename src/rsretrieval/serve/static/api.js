/** The server's answers. Whatever goes wrong is an Error whose message is a sentence for the reader. */

const PAGE = 40; // results at once
const TRIES = 3; // of a busy server

const pause = (seconds) => new Promise((go) => setTimeout(go, seconds * 1000));

async function answered(url, options = {}) {
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(url, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && attempt < TRIES) {
      await pause(Math.min(Number(response.headers.get("Retry-After")) || 1, 5));
      options.signal?.throwIfAborted();
      continue;
    }
    const said = await response.json().catch(() => null);
    throw new Error(typeof said?.error === "string" ? said.error : `The server answers with status ${response.status}.`);
  }
}

const json = async (url, options) => (await answered(url, options)).json();

/** What the archive is and what is allowed. */
export const archive = () => json("/api/archive");

/** A page of results, from a number on. */
export function search(query, offset, signal) {
  const parameters = new URLSearchParams(query);
  parameters.set("k", PAGE);
  if (offset) parameters.set("offset", offset);
  return json(`/api/search?${parameters}`, { signal });
}

/** The first page of results by a picture too, with what stands for the picture in an address. */
export function searchByPicture(query, file, signal) {
  const body = new FormData();
  for (const [name, value] of query) body.append(name, value);
  body.append("k", PAGE);
  body.append("file", file);
  return json("/api/search", { method: "POST", body, signal });
}

export const item = (key, signal) => json(`/api/items/${encodeURIComponent(key)}`, { signal });

export const thumbnailOf = (key) => `/api/items/${encodeURIComponent(key)}/thumbnail`;
export const imageOf = (key) => `/api/items/${encodeURIComponent(key)}/image`;
export const heatOf = (key, terms) => `/api/items/${encodeURIComponent(key)}/heatmap?${terms}`;
export const surroundingsOf = (key, margin) => `/api/tiles/${encodeURIComponent(key)}?margin=${margin}`;

/** A file of chosen rows, or of the first `k` results of a search. */
export function exportOf(format, query, k, keys) {
  const parameters = new URLSearchParams(keys.length ? keys.map((key) => ["key", key]) : query);
  parameters.set("format", format);
  if (!keys.length) parameters.set("k", k);
  return `/api/export?${parameters}`;
}

/** A picture as an address of its own, so that a refusal can be read; to be revoked when it is no longer shown. */
export const picture = async (url, signal) => URL.createObjectURL(await (await answered(url, { signal })).blob());
