// Coordination polyhedra: an atom, the more electronegative atoms that it is bonded to, and the
// faces of their convex hull. Neighbours outside the cell are found as well.

const FEWEST_CORNERS = 4;
const MOST_CORNERS = 12;
const FLAT = 0.05; // Å within which corners lie in one plane
const SPHERES = [19, 37, 55, 87]; // K, Rb, Cs, Fr: their polyhedra hide those of other metals

/** Polyhedra around atoms of a picture: { atom, corners, faces }, corners as atoms. */
function polyhedra(structure, atoms) {
  if (atoms.length > MAX_BONDED) return [];
  const isOther = (number) => data.elements[number][5] && !SPHERES.includes(number);
  const hasOthers = structure.atomic_numbers.some(isOther);
  return atoms.flatMap((atom) => {
    if (hasOthers && SPHERES.includes(atom.number)) return [];
    const corners = anionsAround(structure, atom);
    if (corners.length < FEWEST_CORNERS || corners.length > MOST_CORNERS) return [];
    return [{ atom, corners, faces: hullFaces(corners.map(({ position }) => position)) }];
  });
}

/** Bonded atoms that are more electronegative than an atom, and no metals; with their images. */
function anionsAround(structure, atom) {
  const [, , , , radius, , negativity] = data.elements[atom.number];
  const wanted = (number) => !data.elements[number][5] && data.elements[number][6] > negativity;
  if (negativity === null) return [];
  return structure.frac_coords.flatMap((frac, site) => {
    const number = structure.atomic_numbers[site];
    if (!wanted(number)) return [];
    return imagesWithin(structure.lattice, atom, frac, BOND_TOLERANCE * (radius + data.elements[number][4]))
      .map((image) => ({ site, number, frac: image, position: toCartesian(image, structure.lattice) }));
  });
}

/** Images of a fractional position at less than `reach` Å from an atom. */
function imagesWithin(lattice, atom, frac, reach) {
  const volume = Math.abs(dot(lattice[0], cross(lattice[1], lattice[2])));
  const ranges = [0, 1, 2].map((axis) => {
    const area = norm(cross(lattice[(axis + 1) % 3], lattice[(axis + 2) % 3]));
    const steps = (reach * area) / volume; // how many cells the sphere reaches over
    const [low, high] = [atom.frac[axis] - steps - frac[axis], atom.frac[axis] + steps - frac[axis]];
    const first = Math.ceil(low);
    return Array.from({ length: Math.max(0, Math.floor(high) - first + 1) }, (_, k) => frac[axis] + first + k);
  });
  const all = ranges[0].flatMap((x) => ranges[1].flatMap((y) => ranges[2].map((z) => [x, y, z])));
  return all.filter((image) => {
    const distance = norm(difference(toCartesian(image, lattice), atom.position));
    return distance > 0.1 && distance < reach;
  });
}

function difference(p, q) {
  return [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
}

/** Faces of the convex hull of a few points: indices of each face, one after the other around it. */
function hullFaces(points) {
  const faces = new Map();
  for (let i = 0; i < points.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      for (let k = 0; k < j; k += 1) {
        const normal = cross(difference(points[j], points[i]), difference(points[k], points[i]));
        const size = norm(normal);
        if (size < FLAT) continue; // three in a line
        const heights = points.map((point) => dot(normal, difference(point, points[i])) / size);
        if (heights.some((height) => height > FLAT) && heights.some((height) => height < -FLAT)) continue;
        const corners = heights.flatMap((height, index) => (Math.abs(height) <= FLAT ? [index] : []));
        faces.set(corners.join(), around(corners, points, normal));
      }
    }
  }
  return [...faces.values()];
}

/** Corners of a plane face, sorted by their angle about its middle. */
function around(corners, points, normal) {
  const middle = [0, 1, 2].map((k) => corners.reduce((sum, index) => sum + points[index][k], 0) / corners.length);
  const x = difference(points[corners[0]], middle);
  const y = cross(normal, x);
  const angle = (index) => {
    const arm = difference(points[index], middle);
    return Math.atan2(dot(arm, y) / norm(y), dot(arm, x) / norm(x));
  };
  return corners.sort((p, q) => angle(p) - angle(q));
}
