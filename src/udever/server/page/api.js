// Talking to the server. The key, where one is needed, stays in this tab and goes nowhere but to this server.

const KEY = "udever-key";
let memory = "";

/** The key in use, "" for none. */
export function currentKey() {
  try {
    return sessionStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

export function setKey(key) {
  memory = key;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // No storage here: the key lasts as long as the page.
  }
}

/** What the server said instead of an answer; `status` 0 where it said nothing. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const SAID = {
  401: "The server wants an API key.",
  429: "The server has its hands full; try again in a moment.",
  503: "The server is starting or stopping; try again in a moment.",
};

/** The answer to a GET, or to a POST where `body` is given. Raises ApiError. */
export async function call(path, body, signal) {
  const headers = { Accept: "application/json" };
  if (currentKey()) headers.Authorization = `Bearer ${currentKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  let answer;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(response?.status ?? 0, response ? `The server answered with status ${response.status}.` : "The server does not answer. Is it still running?");
  }
  if (response.ok) return answer;
  if (response.status === 401) window.dispatchEvent(new Event("keywanted"));
  throw new ApiError(response.status, SAID[response.status] ?? answer?.error?.message ?? `The server answered with status ${response.status}.`);
}
