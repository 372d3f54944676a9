// A ball-and-stick picture of a crystal on a canvas, turned and zoomed by mouse, touch or keys.
// Orthographic, as crystals are usually drawn. Everything is sorted by depth and painted from the
// back: sticks start at the surface of their balls, so nothing needs a depth buffer.

const BALL = 0.42; // of the covalent radius
const FULL_BALL = 1.0; // of the covalent radius, when drawn space-filling
const STICK = 0.1; // Å, radius
const FOG_LEVELS = 8;
const MAX_FOG = 0.45; // of the background in the colour of the farthest atoms
const SPRITE = 160; // pixels, diameter of a painted ball
const EDGE_PIECES = 10; // of a cell edge, each sorted by depth
const FACE_OPACITY = 0.45;

class Viewer {
  constructor(canvas, onHover) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onHover = onHover;
    this.sprites = new Map();
    this.options = { repeat: 1, bonds: true, filled: false, polyhedra: false, axes: true };
    this.listen();
    // In the next frame: a drawing sets the size of the canvas, which would be observed at once.
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.sprites.clear();
      this.draw();
    });
  }

  /** Show another crystal; `keepView` leaves the direction of view as it is. */
  show(structure, keepView = false) {
    this.structure = structure;
    this.build();
    if (!keepView) this.lookStandard();
    this.draw();
  }

  /** Change what is drawn: repeat, bonds, filled, polyhedra or axes. */
  set(options) {
    Object.assign(this.options, options);
    this.build();
    this.draw();
  }

  // What is drawn

  build() {
    const { lattice } = this.structure;
    const { repeat, bonds: wanted } = this.options;
    this.atoms = displayedAtoms(this.structure, repeat);
    this.polyhedra = this.options.polyhedra ? polyhedra(this.structure, this.atoms) : [];
    this.atoms = withCorners(this.atoms, this.polyhedra);
    this.bonds = wanted ? bonds(this.atoms) : [];
    this.edges = cellEdges(lattice, repeat);
    this.center = toCartesian([repeat / 2, repeat / 2, repeat / 2], lattice);
    const far = (point) => norm(point.map((value, k) => value - this.center[k]));
    this.extent = Math.max(...this.atoms.map((atom) => far(atom.position) + this.radius(atom)),
      ...this.edges.flat().map(far));
  }

  radius(atom) {
    return data.elements[atom.number][4] * (this.options.filled ? FULL_BALL : BALL);
  }

  // Direction of view. Rows of `rotation` are the screen's right, up and towards the reader.

  /** Look against `towards`, with `up` as nearly upwards as it goes. */
  look(towards, up) {
    const unit = (vector) => vector.map((value) => value / norm(vector));
    const z = unit(towards);
    const x = unit(cross(up, z));
    this.rotation = [x, cross(z, x), z];
    this.zoom = 1;
    this.shift = [0, 0];
  }

  /** Against a lattice vector: 0, 1 or 2 for a, b or c. */
  lookAlong(axis) {
    const { lattice } = this.structure;
    this.look(lattice[axis], lattice[axis === 2 ? 1 : 2]);
    this.draw();
  }

  /** Nearly along a with c upwards, turned a little, so that all three axes are seen. */
  lookStandard() {
    const { lattice } = this.structure;
    this.look(cross(lattice[1], lattice[2]), lattice[2]);
    this.turn(0.42, 0.24);
  }

  /** Turn by angles in radians about the screen's upward and rightward axes. */
  turn(right, down) {
    const [cy, sy, cx, sx] = [Math.cos(right), Math.sin(right), Math.cos(down), Math.sin(down)];
    const [x, y, z] = this.rotation;
    const mix = (u, a, v, b) => u.map((value, k) => a * value + b * v[k]);
    const [x1, z1] = [mix(x, cy, z, sy), mix(z, cy, x, -sy)];
    this.rotation = [x1, mix(y, cx, z1, -sx), mix(z1, cx, y, sx)];
  }

  /** Pixels right, down, and Å towards the reader. */
  project(point) {
    const relative = point.map((value, k) => value - this.center[k]);
    const [x, y, z] = this.rotation.map((axis) => dot(axis, relative));
    return [this.middle[0] + x * this.scale, this.middle[1] - y * this.scale, z];
  }

  // Painting

  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!this.structure || !width || !height) return;
    const density = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * density);
    this.canvas.height = Math.round(height * density);
    this.context.setTransform(density, 0, 0, density, 0, 0);
    this.size = [width, height];
    this.middle = [width / 2 + this.shift[0], height / 2 + this.shift[1]];
    this.scale = (this.zoom * 0.47 * Math.min(width, height)) / this.extent;
    this.readColors();
    this.context.clearRect(0, 0, width, height);
    this.placed = this.atoms.map((atom) => ({ atom, at: this.project(atom.position) }));
    const shapes = [...this.balls(), ...this.edgePieces(), ...this.sticks(), ...this.faces()];
    for (const shape of shapes.sort((a, b) => a.depth - b.depth)) shape.paint();
    if (this.options.axes) this.drawAxes();
    this.canvas.dataset.atoms = String(this.atoms.length); // read by automatic checks
    this.canvas.dataset.bonds = String(this.bonds.length);
    this.canvas.dataset.polyhedra = String(this.polyhedra.length);
  }

  readColors() {
    const style = getComputedStyle(this.canvas);
    this.background = style.getPropertyValue("--canvas").trim();
    this.ink = style.getPropertyValue("--quiet").trim();
  }

  /** Level of fog of a depth in Å: 0 in front, FOG_LEVELS - 1 at the back. */
  fog(depth) {
    const back = (this.extent - depth) / (2 * this.extent);
    return Math.min(FOG_LEVELS - 1, Math.max(0, Math.floor(back * FOG_LEVELS)));
  }

  fogged(color, level) {
    return blend(color, this.background, (MAX_FOG * level) / (FOG_LEVELS - 1));
  }

  balls() {
    return this.placed.map(({ atom, at: [x, y, depth] }) => {
      const radius = this.radius(atom) * this.scale;
      const sprite = this.sprite(data.elements[atom.number][3], this.fog(depth));
      const paint = () => this.context.drawImage(sprite, x - radius, y - radius, 2 * radius, 2 * radius);
      return { depth, paint };
    });
  }

  /** A shaded ball, painted once for each colour and level of fog. */
  sprite(color, level) {
    const key = `${color} ${level}`;
    if (!this.sprites.has(key)) this.sprites.set(key, paintedBall((shade) => this.fogged(shade, level), color));
    return this.sprites.get(key);
  }

  edgePieces() {
    return this.edges.flatMap(([start, end]) => {
      const [p, q] = [this.project(start), this.project(end)];
      const between = (share) => p.map((value, k) => value + share * (q[k] - value));
      return Array.from({ length: EDGE_PIECES }, (_, piece) => {
        const [from, to] = [between(piece / EDGE_PIECES), between((piece + 1) / EDGE_PIECES)];
        const depth = (from[2] + to[2]) / 2;
        const color = this.fogged(this.ink, this.fog(depth));
        return { depth, paint: () => this.line(from, to, 1.1, color) };
      });
    });
  }

  sticks() {
    return this.bonds.flatMap(([i, j]) => [this.halfStick(i, j), this.halfStick(j, i)]);
  }

  /** Half a bond in the colour of its atom, from the surface of the ball to the middle. */
  halfStick(i, j) {
    const { atom, at } = this.placed[i];
    const to = this.placed[j].at;
    const length = norm(this.atoms[j].position.map((value, k) => value - atom.position[k]));
    const share = Math.min(0.5, Math.sqrt(Math.max(0, this.radius(atom) ** 2 - STICK ** 2)) / length);
    const along = (part) => at.map((value, k) => value + part * (to[k] - value));
    const [start, end] = [along(share), along(0.5)];
    const depth = (start[2] + end[2]) / 2;
    const [color, level] = [data.elements[atom.number][3], this.fog(depth)];
    const width = 2 * STICK * this.scale;
    const paint = () => {
      this.line(start, end, width, this.fogged(blend(color, "#000000", 0.45), level));
      this.line(start, end, 0.7 * width, this.fogged(color, level));
      this.line(start, end, 0.25 * width, this.fogged(blend(color, "#ffffff", 0.5), level));
    };
    return { depth, paint };
  }

  /** Faces of the polyhedra, which one can look through, in the colour of the atom inside. */
  faces() {
    return this.polyhedra.flatMap(({ atom, corners, faces }) => {
      const places = corners.map(({ position }) => this.project(position));
      return faces.map((face) => {
        const points = face.map((index) => places[index]);
        const depth = points.reduce((sum, point) => sum + point[2], 0) / points.length;
        const color = this.fogged(data.elements[atom.number][3], this.fog(depth));
        return { depth, paint: () => this.face(points, color) };
      });
    });
  }

  face(points, color) {
    const { context } = this;
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x, y);
    context.closePath();
    context.globalAlpha = FACE_OPACITY;
    context.fillStyle = color;
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = this.fogged(blend(color, this.ink, 0.5), 0);
    context.lineWidth = 0.7;
    context.stroke();
  }

  line(from, to, width, color) {
    const { context } = this;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(from[0], from[1]);
    context.lineTo(to[0], to[1]);
    context.stroke();
  }

  /** The three lattice directions, in the lower left corner. */
  drawAxes() {
    const origin = [38, this.size[1] - 38];
    const arrows = this.structure.lattice.map((vector, k) => {
      const [x, y, z] = this.rotation.map((axis) => dot(axis, vector) / norm(vector));
      return { name: "abc"[k], tip: [origin[0] + 24 * x, origin[1] - 24 * y], x, y, z };
    });
    this.context.font = "italic 600 13px system-ui, sans-serif";
    this.context.textAlign = "center";
    this.context.textBaseline = "middle";
    for (const { name, tip, x, y } of arrows.sort((p, q) => p.z - q.z)) {
      const color = AXIS_COLORS[name];
      this.line(origin, tip, 2.2, color);
      this.context.fillStyle = color;
      this.context.fillText(name, tip[0] + 9 * x, tip[1] - 9 * y);
    }
  }

  // Mouse, touch and keys

  listen() {
    const { canvas } = this;
    this.pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
      this.onHover(null);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => this.onHover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => {
      this.lookStandard();
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-0.0015 * event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (!before) {
      this.onHover(this.atomAt(now), event);
      return;
    }
    this.pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      this.zoomBy(apart(now) / apart(before));
    } else if (event.shiftKey || event.buttons === 2) {
      this.shift = [this.shift[0] + dx, this.shift[1] + dy];
      this.draw();
    } else {
      this.turn(0.01 * dx, 0.01 * dy);
      this.draw();
    }
  }

  key(event) {
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    const zooms = { "+": 1.1, "-": 1 / 1.1 };
    if (event.key in turns) {
      this.turn(...turns[event.key]);
      this.draw();
    } else if (event.key in zooms) {
      this.zoomBy(zooms[event.key]);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  zoomBy(factor) {
    this.zoom = Math.min(12, Math.max(0.3, this.zoom * factor));
    this.draw();
  }

  /** The foremost atom under a point of the canvas. */
  atomAt([x, y]) {
    const hit = (this.placed ?? []).filter(({ atom, at }) =>
      Math.hypot(at[0] - x, at[1] - y) < this.radius(atom) * this.scale);
    return hit.sort((p, q) => q.at[2] - p.at[2])[0]?.atom ?? null;
  }
}

/** Atoms and the corners of polyhedra that are not among them. */
function withCorners(atoms, found) {
  const all = [...atoms];
  for (const corner of found.flatMap(({ corners }) => corners)) {
    if (!all.some(({ position }) => norm(difference(position, corner.position)) < FACE_TOLERANCE)) all.push(corner);
  }
  return all;
}

const AXIS_COLORS = { a: "#d1495b", b: "#2e933c", c: "#3d7bd9" };

/** Two #rrggbb colours mixed, with a share of the second. */
function blend(first, second, share) {
  const channel = (color, k) => parseInt(color.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mixed = [0, 1, 2].map((k) => Math.round((1 - share) * channel(first, k) + share * channel(second, k)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** A ball lit from the upper left, on a canvas of its own; `tint` adds the fog. */
function paintedBall(tint, color) {
  const canvas = el("canvas", { width: SPRITE, height: SPRITE });
  const context = canvas.getContext("2d");
  const half = SPRITE / 2;
  const light = context.createRadialGradient(0.68 * half, 0.6 * half, 0.02 * half, half, half, half);
  light.addColorStop(0, tint(blend(color, "#ffffff", 0.85)));
  light.addColorStop(0.25, tint(blend(color, "#ffffff", 0.25)));
  light.addColorStop(0.6, tint(color));
  light.addColorStop(0.93, tint(blend(color, "#000000", 0.38)));
  light.addColorStop(1, tint(blend(color, "#000000", 0.6)));
  context.fillStyle = light;
  context.beginPath();
  context.arc(half, half, half - 1, 0, 2 * Math.PI);
  context.fill();
  return canvas;
}
