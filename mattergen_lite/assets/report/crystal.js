// Geometry of a crystal: which atoms, bonds and edges a picture of it has. Lengths in Å; lattice
// vectors are rows, so cart = frac · lattice.

const FACE_TOLERANCE = 0.1; // Å within which an atom counts as lying on a face of the cell
const BOND_TOLERANCE = 1.15; // times the sum of the covalent radii
const MAX_BONDED = 3000; // atoms beyond which bonds are not searched

function toCartesian(frac, lattice) {
  return [0, 1, 2].map((k) => frac[0] * lattice[0][k] + frac[1] * lattice[1][k] + frac[2] * lattice[2][k]);
}

function norm(vector) {
  return Math.hypot(...vector);
}

function cross(u, v) {
  return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
}

function dot(u, v) {
  return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
}

/** Lengths a, b, c in Å and angles alpha, beta, gamma in degrees. */
function cellParameters(lattice) {
  const lengths = lattice.map(norm);
  const angle = (i, j) => (180 / Math.PI) * Math.acos(dot(lattice[i], lattice[j]) / (lengths[i] * lengths[j]));
  return { lengths, angles: [angle(1, 2), angle(0, 2), angle(0, 1)] };
}

/** Images of one fractional coordinate in 0..repeat, both ends included. */
function images(coordinate, repeat, tolerance) {
  const found = [];
  for (let shift = -1; shift <= repeat; shift += 1) {
    const image = coordinate + shift;
    if (image >= -tolerance && image <= repeat + tolerance) found.push(image);
  }
  return found;
}

/** Atoms of repeat × repeat × repeat cells; those on faces appear on the opposite ones too. */
function displayedAtoms(structure, repeat) {
  const { lattice } = structure;
  const tolerance = lattice.map((vector) => FACE_TOLERANCE / norm(vector));
  return structure.frac_coords.flatMap((frac, site) => {
    const [xs, ys, zs] = frac.map((coordinate, axis) => images(coordinate, repeat, tolerance[axis]));
    return xs.flatMap((x) => ys.flatMap((y) => zs.map((z) => {
      const position = toCartesian([x, y, z], lattice);
      return { site, number: structure.atomic_numbers[site], frac: [x, y, z], position };
    })));
  });
}

/** Pairs of atoms close enough to bond; metals bond to each other only where nothing else is. */
function bonds(atoms) {
  if (atoms.length > MAX_BONDED) return [];
  const radius = atoms.map((atom) => data.elements[atom.number][4]);
  const metal = atoms.map((atom) => data.elements[atom.number][5]);
  const allMetal = metal.every(Boolean);
  const found = [];
  for (let i = 0; i < atoms.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      if (metal[i] && metal[j] && !allMetal) continue;
      const reach = BOND_TOLERANCE * (radius[i] + radius[j]);
      const [p, q] = [atoms[i].position, atoms[j].position];
      const squared = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2;
      if (squared < reach * reach && squared > 0.01) found.push([i, j]);
    }
  }
  return found;
}

/** The edges of every cell, as pairs of points, each edge once. */
function cellEdges(lattice, repeat) {
  const edges = [];
  const steps = Array.from({ length: repeat + 1 }, (_, step) => step);
  for (let axis = 0; axis < 3; axis += 1) {
    for (const u of steps) {
      for (const v of steps) {
        for (let w = 0; w < repeat; w += 1) {
          const start = [u, v].toSpliced(axis, 0, w);
          edges.push([start, start.with(axis, w + 1)].map((corner) => toCartesian(corner, lattice)));
        }
      }
    }
  }
  return edges;
}

/** Site counts by element, heaviest share first. */
function elementCounts(structure) {
  const counts = new Map();
  for (const number of structure.atomic_numbers) counts.set(number, (counts.get(number) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}
