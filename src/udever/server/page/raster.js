// Many small marks into a picture, pixel by pixel: quick on every machine, with or without a graphics card.

export const SHAPES = ["circle", "square", "diamond", "triangle"];

/** How much of the pixel at (dx, dy) from the middle a shape of this radius covers, 0 to 1. */
function coverage(shape, radius, dx, dy) {
  const [ax, ay] = [Math.abs(dx), Math.abs(dy)];
  const outside = {
    circle: Math.hypot(dx, dy) - radius,
    square: Math.max(ax, ay) - radius * 0.87,
    diamond: (ax + ay - radius * 1.25) * Math.SQRT1_2,
    triangle: Math.max(dy - radius * 0.7, (ax * 1.9 - dy - radius * 1.15) * 0.47),
  }[shape];
  return Math.max(0, Math.min(1, 0.5 - outside));
}

/** A mark ready to be set: for each pixel it touches, its offset, the colour it brings and what it leaves. */
export function makeStamp(shape, radius, [red, green, blue], opacity) {
  const reach = Math.ceil(radius * 1.4);
  const pixels = [];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const share = Math.round(coverage(shape, radius, dx, dy) * opacity * 256);
      if (share > 3) pixels.push([dx, dy, share]);
    }
  }
  return {
    reach,
    dx: Int16Array.from(pixels, (pixel) => pixel[0]),
    dy: Int16Array.from(pixels, (pixel) => pixel[1]),
    keep: Uint16Array.from(pixels, (pixel) => 256 - pixel[2]),
    redBlue: Uint32Array.from(pixels, (pixel) => (((blue * pixel[2]) << 16) | (red * pixel[2])) >>> 0),
    green: Uint32Array.from(pixels, (pixel) => (green * pixel[2]) >>> 0),
    num: pixels.length,
  };
}

/** An opaque picture. Colours are [red, green, blue]; a pixel is 0xffBBGGRR, as every browser's machine has it. */
export class Raster {
  constructor(context, width, height) {
    this.context = context;
    this.width = width;
    this.height = height;
    this.image = context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  clear([red, green, blue]) {
    this.pixels.fill((0xff000000 | (blue << 16) | (green << 8) | red) >>> 0);
  }

  /** Set a mark with its middle at whole pixels; what lies outside is left out. */
  set(stamp, x, y) {
    const { pixels, width, height } = this;
    const { num, dx, dy, keep, redBlue, green, reach } = stamp;
    const start = y * width + x;
    if (stamp.width !== width) {
      stamp.width = width;
      stamp.offset = Int32Array.from(dx, (across, i) => dy[i] * width + across);
    }
    const { offset } = stamp;
    const inside = x >= reach && y >= reach && x < width - reach && y < height - reach;
    for (let i = 0; i < num; i += 1) {
      if (!inside && (x + dx[i] < 0 || x + dx[i] >= width || y + dy[i] < 0 || y + dy[i] >= height)) continue;
      const at = start + offset[i];
      const old = pixels[at];
      // Red and blue share one multiplication: each has eight bits of room above it.
      const rb = ((Math.imul(old & 0xff00ff, keep[i]) + redBlue[i]) >>> 8) & 0xff00ff;
      const g = (((old >>> 8) & 0xff) * keep[i] + green[i]) & 0xff00;
      pixels[at] = 0xff000000 | rb | g;
    }
  }

  /** A thin line, `share` of 256 strong. */
  line(x0, y0, x1, y1, [red, green, blue], share) {
    const { pixels, width, height } = this;
    const ends = clipped(x0, y0, x1, y1, width - 1, height - 1);
    if (!ends) return;
    [x0, y0, x1, y1] = ends;
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0))));
    const [stepX, stepY] = [(x1 - x0) / steps, (y1 - y0) / steps];
    const keep = 256 - share;
    const addRedBlue = (((blue * share) << 16) | (red * share)) >>> 0;
    const addGreen = green * share;
    for (let i = 0; i <= steps; i += 1) {
      const at = Math.round(y0 + stepY * i) * width + Math.round(x0 + stepX * i);
      const old = pixels[at];
      const rb = ((Math.imul(old & 0xff00ff, keep) + addRedBlue) >>> 8) & 0xff00ff;
      const g = ((((old >>> 8) & 0xff) * keep + addGreen) >>> 8) & 0xff;
      pixels[at] = (0xff000000 | rb | (g << 8)) >>> 0;
    }
  }

  show() {
    this.context.putImageData(this.image, 0, 0);
  }
}

/** The part of a line inside 0..right, 0..bottom; null where there is none (Liang and Barsky). */
function clipped(x0, y0, x1, y1, right, bottom) {
  let [from, to] = [0, 1];
  const [dx, dy] = [x1 - x0, y1 - y0];
  for (const [direction, room] of [[-dx, x0], [dx, right - x0], [-dy, y0], [dy, bottom - y0]]) {
    if (direction === 0) {
      if (room < 0) return null;
    } else if (direction < 0) {
      from = Math.max(from, room / direction);
    } else {
      to = Math.min(to, room / direction);
    }
  }
  return from > to ? null : [x0 + from * dx, y0 + from * dy, x0 + to * dx, y0 + to * dy];
}
