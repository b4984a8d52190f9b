from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.annotation import objects_of

DOG = "<object><name>dog</name></object>"


def read(text):
    return [name for name, _ in objects_of(ElementTree.fromstring(text))]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("<annotation/>", []),
        ("<annotation>\n</annotation>", []),
        ('<annotation verified="yes"><filename>a.jpg</filename></annotation>', []),
        (
            "<annotation><folder/><path/><source><database>x</database></source><owner><name>me"
            "</name></owner><size><width>3</width></size><segmented>0</segmented></annotation>",
            [],
        ),
        (f"<annotation>{DOG}{DOG}</annotation>", ["dog", "dog"]),
        ("<annotation><object><name>\n <![CDATA[dog]]> </name></object></annotation>", ["dog"]),
        (
            "<annotation><weather>rain</weather><object><name>dog</name><part><name>head</name>"
            "<bndbox/></part><bndbox/><attributes><attribute><name>x</name></attribute>"
            "</attributes></object></annotation>",
            ["dog"],
        ),
        (
            "<annotation><object><name>cat</name><deleted>1</deleted></object>"
            "<object><name>dog</name><deleted>0</deleted></object></annotation>",
            ["dog"],
        ),
    ],
)
def test_what_is_understood(text, names):
    assert read(text) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"<Annotation>{DOG}</Annotation>", "its root is <Annotation>, expected <annotation>"),
        (f"<annotations><annotation>{DOG}</annotation></annotations>", "root is <annotations>"),
        (f'<annotation xmlns="http://x">{DOG}</annotation>', "root is <{http://x}annotation>"),
        ('<annotation xmlns:a="http://x"><a:object><a:name>dog</a:name></a:object></annotation>',
         "it has <{http://x}object>"),
        (f"<annotation><objects>{DOG}</objects></annotation>", "it has <objects>"),
        (f"<annotation><source>{DOG}</source></annotation>", "it has <object>"),
        ("<annotation><Object><name>dog</name></Object></annotation>", "it has <Object>"),
        (f"<annotation>{DOG}<OBJECT><name>cat</name></OBJECT></annotation>", "it has <OBJECT>"),
        (f"<annotation>{DOG}<thing><label>cat</label></thing></annotation>", "it has <label>"),
        ("<annotation><object><name>dog</name><object><name>cat</name></object></object>"
         "</annotation>", "it has <object>"),
        ("<annotation><label>dog</label></annotation>", "it has <label>"),
        ("<annotation><shapes><s>dog</s></shapes></annotation>", "it has <shapes>"),
        ('<annotation label="dog"/>', "it has <label>"),
        ("<annotation>dog</annotation>", "it has the text 'dog'"),
        ("<annotation><object/></annotation>", "an <object> has 0 <name>"),
        ('<annotation><object name="dog"/></annotation>', "an <object> has 0 <name>"),
        ("<annotation><object><Name>dog</Name></object></annotation>", "has 0 <name>"),
        ("<annotation><object><name>a</name><name>b</name></object></annotation>", "has 2 <name>"),
        ("<annotation><object><name> </name></object></annotation>", "holds nothing, expected"),
        ("<annotation><object><name><b>dog</b></name></object></annotation>", "holds <b>"),
    ],
)  # fmt: skip
def test_what_may_be_an_object_is_refused(text, reason):
    with pytest.raises(ValueError, match="expected") as caught:
        read(text)
    assert reason in str(caught.value)


TAGS = ("annotation", "object", "name", "Object", "NAME", "objects", "label", "thing", "bndbox")
TREES = st.recursive(
    st.just("dog"),
    lambda inside: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>",
        st.sampled_from(TAGS),
        st.lists(inside, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@given(st.lists(TREES, min_size=1, max_size=3))
def test_an_annotation_that_holds_a_word_is_never_read_as_no_label(parts):
    try:
        names = read(f"<annotation>{''.join(parts)}</annotation>")
    except ValueError:
        return
    assert names and not any(name.replace("dog", "") for name in names)
