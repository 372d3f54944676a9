"""Tensor shapes in annotations, through jaxtyping where it is installed.

jaxtyping is checked in tests only. A bare GPU node that lacks it must still import the training
path, so without it the annotations fall back to plain tensors and cost nothing.
"""

try:
    from jaxtyping import Bool, Float, Int
except ModuleNotFoundError:

    class _Shaped:
        """Stands in for `Float[Tensor, "B N 3"]`: subscripting returns the tensor type itself."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Int = _Shaped

__all__ = ["Bool", "Float", "Int"]
