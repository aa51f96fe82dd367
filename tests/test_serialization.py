"""Values keep their bits through text and arrays, and nothing but listed classes is made."""

import json

import numpy as np
import pytest

from streamgmm.serialization import decode, encode


def test_only_known_classes_are_read():
    with pytest.raises(TypeError, match="encode"):
        encode(object())
    with pytest.raises(KeyError):
        decode({"class": "Popen", "fields": {}}, {})
    value = (None, True, 3, -0.0, float("inf"), np.float64(0.1), "text", np.arange(3))
    tree, arrays = encode(value)
    back = decode(json.loads(json.dumps(tree)), arrays)
    assert back[:7] == value[:7]
    assert np.signbit(back[3])
    np.testing.assert_array_equal(back[7], value[7])
