// The points of a map as they come over the wire, and what is asked of them: who is near, who belongs together.

function bytesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

/** `/v1/map` or the data of a map file, decoded. `before` is null where there is one model. */
export function decodePoints(data) {
  const xs = new Float32Array(bytesOf(data.x));
  const ys = new Float32Array(bytesOf(data.y));
  const columns = new Map();
  for (const [name, column] of Object.entries(data.columns)) {
    columns.set(name, { names: column.names, codes: new Int32Array(bytesOf(column.codes)) });
  }
  const before = data.before_x && { x: new Float32Array(bytesOf(data.before_x)), y: new Float32Array(bytesOf(data.before_y)) };
  const links = new Int32Array(bytesOf(data.links));
  return {
    num: data.num_points,
    numRows: data.num_rows,
    models: data.models,
    ids: data.ids,
    after: { x: xs, y: ys },
    before: before || null,
    columns,
    links,
    groups: joined(data.num_points, links),
  };
}

/** What a row has in a column; "" where there is no such column. */
export function valueOf(points, name, row) {
  const column = points.columns.get(name);
  return column ? column.names[column.codes[row]] : "";
}

/** Rows by the id that a search gives its hits: `source:lines` where both are known, else the row's own. */
export function rowsByHit(points) {
  const rows = new Map();
  const named = points.columns.has("source") && points.columns.has("lines");
  for (let row = points.num - 1; row >= 0; row -= 1) {
    rows.set(points.ids[row], row);
    if (named) rows.set(`${valueOf(points, "source", row)}:${valueOf(points, "lines", row)}`, row);
  }
  return rows;
}

/** Rows that links join, directly or through others: `of(row)` lists them all, the row included. */
function joined(num, links) {
  const parent = Int32Array.from({ length: num }, (_, row) => row);
  const root = (row) => {
    while (parent[row] !== row) {
      parent[row] = parent[parent[row]];
      row = parent[row];
    }
    return row;
  };
  for (let i = 0; i < links.length; i += 2) parent[root(links[i + 1])] = root(links[i]);
  const members = new Map();
  for (const row of new Set(links)) {
    const top = root(row);
    if (members.has(top)) members.get(top).push(row);
    else members.set(top, [row]);
  }
  for (const rows of members.values()) rows.sort((a, b) => a - b);
  return { of: (row) => members.get(root(row)) ?? [row] };
}

/** Smallest and largest coordinates; a plane without extent is given some. */
export function boundsOf(x, y) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < x.length; i += 1) {
    if (x[i] < left) left = x[i];
    if (x[i] > right) right = x[i];
    if (y[i] < bottom) bottom = y[i];
    if (y[i] > top) top = y[i];
  }
  if (!(left <= right)) return { left: -1, right: 1, bottom: -1, top: 1 };
  const least = Math.max(right - left, top - bottom, 1e-6) * 0.02;
  return { left: left - least, right: right + least, bottom: bottom - least, top: top + least };
}

/** Points in square cells, so that the nearest to a place is found among a few and not among all. */
export class Grid {
  constructor(x, y) {
    this.x = x;
    this.y = y;
    this.bounds = boundsOf(x, y);
    const { left, right, bottom, top } = this.bounds;
    const per_side = Math.max(1, Math.min(256, Math.round(Math.sqrt(x.length / 2))));
    this.cell = Math.max(right - left, top - bottom) / per_side;
    this.columns = Math.max(1, Math.ceil((right - left) / this.cell));
    this.rows = Math.max(1, Math.ceil((top - bottom) / this.cell));
    this.starts = new Int32Array(this.columns * this.rows + 1);
    const cells = new Int32Array(x.length);
    for (let i = 0; i < x.length; i += 1) {
      cells[i] = this.row(y[i]) * this.columns + this.column(x[i]);
      this.starts[cells[i] + 1] += 1;
    }
    for (let cell = 0; cell < this.starts.length - 1; cell += 1) this.starts[cell + 1] += this.starts[cell];
    const next = this.starts.slice();
    this.items = new Int32Array(x.length);
    for (let i = 0; i < x.length; i += 1) this.items[next[cells[i]]++] = i;
  }

  column(x) {
    return Math.max(0, Math.min(this.columns - 1, Math.floor((x - this.bounds.left) / this.cell)));
  }

  row(y) {
    return Math.max(0, Math.min(this.rows - 1, Math.floor((y - this.bounds.bottom) / this.cell)));
  }

  /** The point nearest to (x, y) within `radius` that `passes`; -1 without one. */
  nearest(x, y, radius, passes) {
    let [best, least] = [-1, radius * radius];
    for (let row = this.row(y - radius); row <= this.row(y + radius); row += 1) {
      const first = this.starts[row * this.columns + this.column(x - radius)];
      const end = this.starts[row * this.columns + this.column(x + radius) + 1];
      for (let at = first; at < end; at += 1) {
        const item = this.items[at];
        const distance = (this.x[item] - x) ** 2 + (this.y[item] - y) ** 2;
        if (distance < least && passes(item)) [best, least] = [item, distance];
      }
    }
    return best;
  }
}
