"""Building into a host: its fixed sites and cell come out as they went in, whatever its cell."""

import numpy as np
import pytest
import torch
from crystals import li3ps4, nacl, quartz, triclinic
from models import tiny_model
from pymatgen.core import Lattice, Structure

from mattergen_lite.chemistry.elements import element_mask
from mattergen_lite.io.tensors import from_structures, to_structures
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystalBatch
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.host import CellChange, parse_host
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.tensors.geometry import wrap_difference

SKEWED = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]])  # another cell of the same lattice
MIRRORED = np.diag([1, 1, -1])


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def turned(structure: Structure) -> Structure:
    """A far from reduced cell in a general orientation, coordinates in the cell."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    lattice = SKEWED @ structure.lattice.matrix @ rotation
    coords = structure.frac_coords @ np.linalg.inv(SKEWED) % 1.0
    return Structure(lattice, structure.species, coords)


def left_handed(structure: Structure) -> Structure:
    return Structure(structure.lattice.matrix @ MIRRORED, structure.species, structure.frac_coords)


def written(structure: Structure, folder) -> object:
    path = folder / "host.json"
    path.write_text(structure.to_json())
    return path


def asked(host, **constraints) -> Constraints:
    return parse_constraints(Request(**constraints), host)


def build(model, host, count=4, steps=3, **constraints):
    target = Target(constraints=asked(host, **constraints))
    options = SamplerOptions(steps=steps, batch_size=4)
    return sample(model, range(count), seed=0, options=options, target=target).crystals


HOSTS = {
    "triclinic": triclinic(),
    "turned": turned(triclinic()),
    "left-handed": left_handed(turned(triclinic())),
    "primitive": li3ps4(),
    "quartz": turned(quartz()),
    "conventional": nacl(),
}


@pytest.mark.parametrize("space_group", ["any", "none"])
@pytest.mark.parametrize("name", HOSTS)
def test_fixed_sites_and_lattice_are_the_very_numbers_of_the_file(
    model, tmp_path, name, space_group
):
    structure = HOSTS[name]
    host = parse_host(written(structure, tmp_path), "all", True, "1..3")
    for found in to_structures(build(model, host, space_group=space_group)):
        sites = found[: len(structure)]
        assert np.array_equal(found.lattice.matrix, structure.lattice.matrix)
        assert np.array_equal([site.frac_coords for site in sites], structure.frac_coords)
        assert [site.specie for site in sites] == structure.species
        assert 1 <= len(found) - len(structure) <= 3


@pytest.mark.parametrize("name", ["turned", "left-handed"])
def test_a_free_lattice_keeps_fixed_sites_and_orientation(model, tmp_path, name):
    structure = HOSTS[name]
    host = parse_host(written(structure, tmp_path), "0,2..3", False, None)
    for found in to_structures(build(model, host)):
        expected = structure.frac_coords[[0, 2, 3]]
        assert np.array_equal(found.frac_coords[:3], expected)
        assert len(found) == 4
        a, b, c = found.lattice.matrix
        host_a, host_b, host_c = structure.lattice.matrix
        assert np.dot(a, host_a) == pytest.approx(
            np.linalg.norm(a) * np.linalg.norm(host_a), rel=1e-9
        )
        normal = np.cross(host_a, host_b)
        assert abs(np.dot(b, normal)) < 1e-6 * np.linalg.norm(normal)
        assert np.dot(c, normal) * np.dot(host_c, normal) > 0


@pytest.mark.parametrize("space_group", ["any", "none"])
@pytest.mark.parametrize("name", HOSTS)
def test_there_and_back_is_the_same_crystal(tmp_path, name, space_group):
    """In the cell that is sampled in the fixed sites are where the host has them, and return."""
    structure = HOSTS[name]
    host = parse_host(written(structure, tmp_path), "all", False, "1")
    partial_crystal = partial_crystal_sampler(
        asked(host, space_group=space_group), tiny_model().config
    ).draw(*sample_rngs(0, [0]))
    batch = PartialCrystalBatch.of([partial_crystal], element_mask(structure.symbol_set))
    atoms = batch.crystals.expand()
    known = torch.tensor(np.repeat(partial_crystal.known, partial_crystal.orbits.multiplicities))
    copies = partial_crystal.change.num_copies
    assert int(known.sum()) * copies == len(structure)
    back = partial_crystal.change.back(atoms.frac_coords[0][known].double())
    assert back.shape[1] == copies
    found = Structure(
        structure.lattice,
        atoms.atomic_numbers[0][known].repeat_interleave(copies).tolist(),
        back.flatten(0, 1).numpy(),
    )
    apart = found.lattice.get_all_distances(found.frac_coords, structure.frac_coords)
    apart[np.not_equal.outer(found.atomic_numbers, structure.atomic_numbers)] = np.inf
    assert apart.min(0).max() < 2e-3
    gram = partial_crystal.change.matrix @ atoms.lattice[0].double()
    expected = torch.tensor(structure.lattice.matrix)
    torch.testing.assert_close(gram @ gram.T, expected @ expected.T, rtol=1e-3, atol=1e-3)


def test_known_cells_without_symmetry_are_reduced(tmp_path):
    host = parse_host(written(turned(triclinic()), tmp_path), "all", True, "1")
    constraints = asked(host, space_group="none")
    partial_crystal = partial_crystal_sampler(constraints, tiny_model().config).draw(
        *sample_rngs(0, [0])
    )
    lengths = np.linalg.norm(partial_crystal.orbits.lattice, axis=-1)
    assert sorted(lengths) == pytest.approx(sorted(triclinic().lattice.abc), rel=1e-3)


@pytest.mark.parametrize(
    "rows",
    [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]], SKEWED * [2, 1, 3]],
)
def test_a_larger_cell_has_all_copies_of_an_atom(rows):
    """As many as it holds smaller cells, all different, lattice vectors apart."""
    matrix = torch.tensor(np.array(rows), dtype=torch.double)
    change = CellChange(matrix=matrix, shift=torch.tensor([0.1, 0.2, 0.3], dtype=torch.double))
    place = torch.tensor([[0.31, 0.77, 0.15]], dtype=torch.double)
    copies = change.back(place)[0]
    assert len(copies) == change.num_copies == round(abs(np.linalg.det(rows)))
    again = copies @ matrix + change.shift
    assert wrap_difference(again - place).abs().max() < 1e-6
    apart = wrap_difference(copies[:, None] - copies).abs().amax(-1)
    assert (apart + torch.eye(len(copies))).min() > 1e-3


def test_placed_atoms_are_of_the_asked_elements(model, tmp_path):
    host = parse_host(written(li3ps4(), tmp_path), "P,S", True, None)
    for found in to_structures(build(model, host, elements="Na,K")):
        assert [str(site.specie) for site in found[:5]] == ["P", "S", "S", "S", "S"]
        assert {str(site.specie) for site in found[5:]} <= {"Na", "K"}
        assert len(found) == 8


def test_a_cell_alone_can_be_fixed(model, tmp_path):
    host = parse_host(written(turned(nacl()), tmp_path), "none", True, "2..5")
    found = build(model, host)
    assert {int(n) for n in found.num_atoms} <= {2, 3, 4, 5}
    expected = torch.tensor(turned(nacl()).lattice.matrix)
    assert torch.equal(found.lattice, expected.expand(4, 3, 3))


def test_samples_in_a_host_do_not_depend_on_their_batch(model, tmp_path):
    host = parse_host(written(triclinic(), tmp_path), "0,1", False, "1..4")
    target = Target(constraints=asked(host))
    options = SamplerOptions(steps=4, batch_size=3)
    everything = sample(model, range(5), seed=2, options=options, target=target).crystals
    one = sample(model, [3], seed=2, options=options, target=target).crystals
    size = int(one.num_atoms[0])
    assert torch.equal(everything.atomic_numbers[3, :size], one.atomic_numbers[0])
    torch.testing.assert_close(everything.lattice[3], one.lattice[0], rtol=2e-3, atol=2e-3)


def test_sites_are_chosen_by_number_element_or_all(tmp_path):
    path = written(li3ps4(), tmp_path)

    def fixed(text):
        return parse_host(path, text, False, None).fixed_elements

    assert fixed("all") == fixed(None) == ("Li", "Li", "Li", "P", "S", "S", "S", "S")
    assert fixed("none") == ()
    assert fixed("3,0") == ("Li", "P")
    assert fixed("4..7, P") == ("P", "S", "S", "S", "S")
    assert fixed("0,0..1") == ("Li", "Li")
    assert parse_host(path, "P", False, None).num_freed == 7
    assert parse_host(None, None, False, None) is None


@pytest.mark.parametrize("sites", ["8", "6..8", "Fe", "3..1", "-1", "some", ""])
def test_sites_that_are_not_there_name_themselves(tmp_path, sites):
    path = written(li3ps4(), tmp_path)
    if sites == "":
        sites = "0,,1"
    with pytest.raises(ValueError, match=r"fix-sites .*host.json has 8 sites, numbered 0 to 7"):
        parse_host(path, sites, False, None)


def test_unusable_files_name_themselves(tmp_path):
    lattice = Lattice.cubic(4.0)
    mixed = Structure(lattice, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match=r"seed-structure .*partially occupied"):
        parse_host(written(mixed, tmp_path), "all", False, "1")
    with pytest.raises(ValueError, match="does not exist"):
        parse_host(tmp_path / "missing.cif", "all", False, "1")
    (tmp_path / "two.json").write_text(f"[{nacl().to_json()}, {nacl().to_json()}]")
    with pytest.raises(ValueError, match="holds several structures: expected one"):
        parse_host(tmp_path / "two.json", "all", False, "1")


@pytest.mark.parametrize("stray", [("0", False, None), (None, True, None), (None, False, "2")])
def test_something_to_fix_needs_a_file(stray):
    with pytest.raises(ValueError, match="need a seed-structure"):
        parse_host(None, *stray)


def test_hosts_with_many_sites_do_not_lose_precision_through_tensors(model, tmp_path):
    """Coordinates of the batch are double precision: no digit of the file is lost."""
    structure = triclinic()
    structure.translate_sites([1], [1 / 3, 0, 1 / 7])
    host = parse_host(written(structure, tmp_path), "all", True, "1")
    crystals = build(model, host, count=1)
    assert crystals.frac_coords.dtype == torch.float64
    assert from_structures(to_structures(crystals)).num_atoms.tolist() == [5]
