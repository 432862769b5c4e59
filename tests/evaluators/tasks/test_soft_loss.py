import pytest
import torch

from evaluators.tasks.heads.classification import Classification
from evaluators.tasks.heads.image_to_image import ImageToImage
from evaluators.tasks.heads.multi_label import MultiLabel
from evaluators.tasks.heads.regression import Regression
from evaluators.tasks.heads.token_classification import TokenClassification

HEADS = {
    Classification(): ((6, 3), torch.tensor([0, 1, 2, 0, 1, 2])),
    TokenClassification(): ((6, 4, 3), torch.tensor([[0, 1, -100, -100]]).expand(6, 4)),
    MultiLabel(): ((6, 3), torch.ones(6, 3)),
    Regression(): ((6, 1), torch.ones(6, 1)),
    ImageToImage(): ((6, 1, 4, 4), torch.ones(6, 1, 4, 4)),
}


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_a_student_is_nearest_to_its_teacher_where_it_says_the_same(head):
    shape, labels = HEADS[head]
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(shape, generator=generator)
    student = torch.randn(shape, generator=generator).requires_grad_()
    far = head.soft_loss(student, teacher, labels, 2.0)
    far.backward()
    assert far.item() > 0.01
    assert student.grad.abs().sum() > 0
    assert head.soft_loss(student - 0.5 * student.grad, teacher, labels, 2.0).item() < far.item()
    assert head.soft_loss(teacher, teacher, labels, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_tokens_without_a_label_do_not_count():
    shape, labels = HEADS[next(head for head in HEADS if head.kind == "token-classification")]
    student, teacher = torch.randn(shape), torch.randn(shape)
    other = teacher.clone()
    other[:, 2:] += 3
    assert TokenClassification().soft_loss(student, teacher, labels, 1.0).item() == pytest.approx(
        TokenClassification().soft_loss(student, other, labels, 1.0).item()
    )
