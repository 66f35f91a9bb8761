"""Instructions become word ids, or are refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vla_mbpo.policy.vocabulary import PAD, UnknownInstruction, Vocabulary
from vla_mbpo.sim.tasks import TASKS

KNOWN = Vocabulary.of([task.instruction for task in TASKS.values()])
sentences = st.lists(st.sampled_from(KNOWN.words), min_size=1, max_size=KNOWN.length)


def decode(ids) -> list[str]:
    return [KNOWN.words[i - 1] for i in ids if i != PAD]


@given(sentences)
def test_decoding_gives_the_words_back(words):
    assert decode(KNOWN.encode(" ".join(words))) == words


@given(sentences)
def test_padding_fills_the_rest_and_only_the_rest(words):
    ids = KNOWN.encode(" ".join(words))
    assert ids.shape == (KNOWN.length,)
    assert ids.dtype == np.int64
    assert (ids[: len(words)] != PAD).all()
    assert (ids[len(words) :] == PAD).all()


@given(sentences, st.randoms())
def test_case_and_spacing_do_not_matter(words, random):
    shouted = "  ".join(random.choice((word, word.upper(), word.title())) for word in words)
    np.testing.assert_array_equal(KNOWN.encode(f" {shouted}\n"), KNOWN.encode(" ".join(words)))


@given(st.lists(st.sampled_from(KNOWN.words), max_size=3), st.text("abcdefghijklmnopqrstuvwxyz", min_size=1))
def test_an_unknown_word_is_refused_by_name_with_the_known_ones_listed(words, stranger):
    assume(stranger not in KNOWN.words)
    with pytest.raises(UnknownInstruction) as error:
        KNOWN.encode(" ".join([*words, stranger]))
    message = str(error.value)
    assert f"'{stranger}'" in message
    assert message.endswith("known: " + " ".join(KNOWN.words))


@pytest.mark.parametrize("text", ["", "  \n", " ".join(["the"] * (KNOWN.length + 1))])
def test_an_empty_or_too_long_instruction_is_refused(text):
    with pytest.raises(UnknownInstruction, match=f"expected 1 to {KNOWN.length}"):
        KNOWN.encode(text)


def test_every_task_has_ids_of_its_own():
    assert len({KNOWN.encode(task.instruction).tobytes() for task in TASKS.values()}) == len(TASKS)


@given(st.permutations([task.instruction for task in TASKS.values()]))
def test_the_order_of_instructions_does_not_change_the_ids(instructions):
    assert Vocabulary.of(instructions) == KNOWN
