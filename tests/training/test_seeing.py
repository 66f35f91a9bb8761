"""Eyes that learn from other eyes: any picture is a lesson."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.policy.network import FlowPolicy, PolicyConfig  # noqa: E402  (after the check that torch is there)
from vla_mbpo.training.seeing import Seeing, covered  # noqa: E402

SIZE = 32


class Brightest:
    """Eyes that find the brightest row and column of each view."""

    def points(self, head, wrist, words):
        assert len(words) == len(head) == len(wrist)
        views = [view.mean(1) for view in (head, wrist)]
        return torch.stack([torch.stack([v.mean(2).argmax(1), v.mean(1).argmax(1)], 1) / SIZE for v in views], 1)


@pytest.fixture
def pictures():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = torch.full((24, SIZE, SIZE, 3), 40, dtype=torch.uint8)
    for picture in made:
        y, x = torch.randint(4, SIZE - 4, (2,)).tolist()
        picture[y - 2 : y + 3, x - 2 : x + 3] = 250
    return made


def test_the_policys_eyes_come_to_find_what_the_others_find(pictures):
    net = FlowPolicy(PolicyConfig(5, 4, image_size=SIZE, width=32, layers=1, heads=2, channels=(8, 8, 8), keypoints=8))
    teacher = Brightest()
    eyes = teacher.points(*(pictures.permute(0, 3, 1, 2).float(),) * 2, pictures[:, 0, 0, :2])
    seeing = Seeing(teacher, 32, eyes, torch.tensor([[1, 2, 0, 0], [3, 4, 5, 0]]))
    optimiser = torch.optim.Adam([*net.eyes.parameters(), *seeing.parameters()], 3e-3)
    errors = []
    for _ in range(80):
        errors.append(seeing.loss(net, pictures, pictures))
        optimiser.zero_grad()
        errors[-1].backward()
        optimiser.step()
    before, after = (torch.stack(part).mean().item() for part in (errors[:8], errors[-8:]))
    assert after < 0.6 * before


def test_a_covered_picture_holds_nothing_but_its_own_and_one_other(pictures):
    several = torch.arange(40.0)[:, None, None, None].expand(-1, 3, SIZE, SIZE)
    found = covered(several)
    kinds = [picture.unique().tolist() for picture in found]
    assert all(len(kind) <= 2 for kind in kinds) and any(len(kind) == 2 for kind in kinds)
    assert all(number in kind or len(kind) == 1 for number, kind in enumerate(kinds))


def test_what_is_covered_is_a_rectangle_and_the_same_in_all_channels(pictures):
    found = covered(torch.arange(40.0)[:, None, None, None].expand(-1, 3, SIZE, SIZE))
    for number, picture in enumerate(found):
        other = picture[0] != number
        assert (picture == picture[0]).all()
        assert other.equal(other.any(1)[:, None] & other.any(0)[None])
