"""The film of one sample: it ends where `sample` ends, and can be drawn."""

import pytest
import torch
from crystals import nacl
from matplotlib.image import imread
from models import tiny_model
from PIL import Image

from mattergen_lite.files.folders import write_text
from mattergen_lite.io.write import to_cif
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.host import parse_host
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.sampling.trajectory import Trajectory, draw_settling, draw_strip, write_gif

OPTIONS = SamplerOptions(steps=6, strength=1.0)
EIGHT_ATOMS = Target(constraints=parse_constraints(Request(num_atoms="8")))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def trajectory(model):
    return Trajectory.of_sample(model, 3, seed=1, options=OPTIONS, target=EIGHT_ATOMS)


def test_it_ends_as_the_sample_of_that_number(model, trajectory):
    crystals = sample(model, [3], seed=1, options=OPTIONS, target=EIGHT_ATOMS).crystals
    assert torch.equal(trajectory.states[-1].atomic_numbers, crystals.atomic_numbers)
    torch.testing.assert_close(trajectory.states[-1].frac_coords, crystals.frac_coords)
    torch.testing.assert_close(trajectory.states[-1].lattice, crystals.lattice)


def test_every_step_is_there_down_to_no_noise(trajectory):
    assert len(trajectory.states) == len(trajectory.sigmas) == 6
    assert list(trajectory.sigmas) == sorted(trajectory.sigmas, reverse=True)
    assert trajectory.sigmas[-1] == 0


def test_from_a_known_crystal_there_are_fewer_steps(model, trajectory):
    """Six tenths of the levels are gone through, those of little noise."""
    short = Trajectory.of_sample(model, 3, options=SamplerOptions(steps=6), target=EIGHT_ATOMS)
    assert len(short.states) == 4
    assert short.sigmas == trajectory.sigmas[-4:]


def test_distances_from_the_result(trajectory):
    assert trajectory.distances()[-1] < 1e-6
    assert trajectory.distances()[0] > 0.05  # noise all over the cell
    assert trajectory.wrong_elements()[-1] == 0
    assert all(volume > 0 for volume in trajectory.volumes_per_atom())


def test_a_common_shift_is_no_distance(trajectory):
    end = trajectory.states[-1]
    shifted = type(end)(
        **{**vars(end), "frac_coords": (end.frac_coords + torch.tensor([0.3, 0.9, 0.5])) % 1}
    )
    assert Trajectory(sigmas=(1.0, 0.0), states=(shifted, end)).distances()[0] < 1e-5


def test_the_sites_of_a_host_stay_where_they_are(model, tmp_path):
    write_text(to_cif(nacl(), None).text, tmp_path / "host.cif")
    host = parse_host(tmp_path / "host.cif", "Cl", True, "1..4")
    target = Target(constraints=parse_constraints(Request(), host))
    followed = Trajectory.of_sample(model, 0, options=OPTIONS, target=target)
    ends = [state.frac_coords[0, :4] for state in followed.states]
    assert all(torch.equal(sites, ends[0]) for sites in ends)


def test_pictures(trajectory, tmp_path):
    for draw in (draw_strip, draw_settling):
        draw(trajectory).savefig(tmp_path / "one.png")
        assert imread(tmp_path / "one.png")[..., :3].std() > 0.05
    with pytest.raises(ValueError, match="num_shown is 1"):
        draw_strip(trajectory, 1)


def test_the_film_has_a_frame_a_state_and_rests_on_the_last(trajectory, tmp_path):
    write_gif(tmp_path / "new" / "film.gif", trajectory, frames_per_second=4)
    with Image.open(tmp_path / "new" / "film.gif") as film:
        assert film.info["loop"] == 0
        milliseconds = []
        for frame in range(film.n_frames):
            film.seek(frame)
            milliseconds.append(film.info["duration"])
    assert sum(milliseconds) == 250 * (6 + 4)  # equal frames may have been merged
    with pytest.raises(ValueError, match="not named"):
        write_gif(tmp_path / "film.png", trajectory)
