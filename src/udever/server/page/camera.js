// Where on the plane we look: a middle, a scale, and the way between plane and screen.

/** `scale` is pixels of the page for a unit of the plane; y points up on the plane and down on the screen. */
export class Camera {
  constructor(bounds) {
    this.bounds = bounds;
    this.width = this.height = 1;
    this.fit();
  }

  get fitted() {
    const { left, right, bottom, top } = this.bounds;
    const room = Math.max(0.5, Math.min(0.94, 1 - 48 / Math.min(this.width, this.height)));
    return Math.min(this.width / (right - left), this.height / (top - bottom)) * room;
  }

  get zoom() {
    return this.scale / this.fitted;
  }

  fit() {
    const { left, right, bottom, top } = this.bounds;
    this.x = (left + right) / 2;
    this.y = (bottom + top) / 2;
    this.scale = this.fitted;
  }

  resize(width, height) {
    const zoom = this.zoom;
    this.width = width;
    this.height = height;
    this.scale = this.fitted * zoom;
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (this.y - y) * this.scale + this.height / 2];
  }

  toPlane(x, y) {
    return [(x - this.width / 2) / this.scale + this.x, this.y - (y - this.height / 2) / this.scale];
  }

  pan(dx, dy) {
    const { left, right, bottom, top } = this.bounds;
    this.x = Math.max(left, Math.min(right, this.x - dx / this.scale));
    this.y = Math.max(bottom, Math.min(top, this.y + dy / this.scale));
  }

  /** Zoom so that the place below (x, y) on the screen stays there. */
  zoomAt(factor, x, y) {
    const [px, py] = this.toPlane(x, y);
    this.scale = Math.max(this.fitted * 0.5, Math.min(this.fitted * 5000, this.scale * factor));
    this.x = px - (x - this.width / 2) / this.scale;
    this.y = py + (y - this.height / 2) / this.scale;
    this.pan(0, 0);
  }
}
