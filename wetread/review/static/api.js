// What the page asks of its own server, and nothing else.

/** Ask for JSON. Throws where the server does not answer, or refuses. */
export async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  return read(answer);
}

/** Say something; the answer comes when it is on the disk. */
export async function say(path, value) {
  const headers = { "Content-Type": "application/json" };
  return read(await fetch(path, { method: "POST", headers, body: JSON.stringify(value) }));
}

async function read(answer) {
  if (answer.status === 403) throw new Error("This page is no longer open: open the address that `wetread review` printed.");
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.problem || `The server answered ${answer.status}.`);
  return value;
}

/** Fetch a picture: its samples, the table that shows them, and their units; or {problem}. */
export async function fetchPicture(number) {
  const answer = await fetch(`/api/rows/${number}/picture`, { cache: "no-store" });
  const told = answer.headers.get("X-Picture");
  if (!told) return read(answer);
  const picture = JSON.parse(told);
  const body = await answer.arrayBuffer();
  const start = picture.levels + (picture.levels % 2);
  const Samples = picture.bits === 16 ? Uint16Array : Uint8Array;
  return { ...picture, number, table: new Uint8Array(body, 0, picture.levels), samples: new Samples(body, start) };
}

/** The address of a question about the worklist. */
export function address(path, query, more = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...query, ...more })) {
    if (value !== "" && value !== null && value !== undefined) words.set(name, value);
  }
  return `${path}?${words}`;
}
