from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.annotation import objects_of

#: As VOC 2007 writes them, with whitespace and a class's name as an owner.
VOC = """<annotation>
	<folder>dog</folder>
	<filename>000005.jpg</filename>
	<source>
		<database>The VOC2007 Database</database>
		<annotation>PASCAL VOC2007</annotation>
		<image>flickr</image>
		<flickrid>325991873</flickrid>
	</source>
	<owner>
		<flickrid>archintent louisville</flickrid>
		<name>cat</name>
	</owner>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>
	%s
</annotation>"""
VOC_OBJECT = """<object>
		<name>dog</name><pose>Rear</pose><truncated>0</truncated><occluded>1</occluded>
		<difficult>0</difficult>
		<bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>270</xmin></bndbox></part>
		<actions><jumping>0</jumping></actions><point><x>290</x><y>270</y></point>
	</object>"""
LABELME = """<annotation>
<filename>a.jpg</filename><folder>users</folder>
<source><submittedBy>me</submittedBy><sourceImage>The MIT-CSAIL database</sourceImage>
<sourceAnnotation>LabelMe Webtool</sourceAnnotation></source>
<imagesize><nrows>480</nrows><ncols>640</ncols></imagesize>
%s
</annotation>"""
LABELME_OBJECT = """<object><name>dog</name><deleted>0</deleted><verified>0</verified><occluded>no
</occluded><attributes/><parts><hasparts/><ispartof/></parts><date>01-Jan-2020 10:00:00</date>
<id>0</id><type>bounding_box</type><polygon><username>me</username><pt><x>1</x><y>2</y></pt>
</polygon><segm><box><xmin>1</xmin></box><mask>a.png</mask></segm></object>"""
DOG = "<object><name>dog</name></object>"


def read(text):
    return [name for name, _ in objects_of(ElementTree.fromstring(text), ["cat", "dog"])]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("<annotation/>", []),
        ("<annotation>\n</annotation>", []),
        (VOC % "", []),
        (VOC % VOC_OBJECT, ["dog"]),
        (LABELME % "", []),
        (LABELME % LABELME_OBJECT, ["dog"]),
        (
            '<annotation xmlns:x="http://www.w3.org/2001/XMLSchema-instance" id="1" version="1.1" '
            'x:noNamespaceSchemaLocation="a.xsd" date="2020-01-01T10:00:00Z"/>',
            [],
        ),
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
        ('<annotation label="dog"/>', "it has the attribute label='dog'"),
        ('<annotation dog="1"/>', "it has the attribute dog='1'"),
        ('<annotation animal="puppy"/>', "it has the attribute animal='puppy'"),
        ('<annotation verified="dog"/>', "it has the attribute verified='dog'"),
        (f'<annotation animal="dog">{DOG}</annotation>', "it has the attribute animal='dog'"),
        ("<annotation><filename>a</filename>cat 5 5 20 20</annotation>", "the text 'cat 5 5 20"),
        (f"<annotation>cat{DOG}</annotation>", "it has the text 'cat'"),
        (f"<annotation>{DOG}cat</annotation>", "it has the text 'cat'"),
        ("<annotation><object>cat<name>dog</name></object></annotation>", "the text 'cat'"),
        ("<annotation><object><name>dog</name>cat</object></annotation>", "the text 'cat'"),
        ("<annotation><size>cat<width>3</width></size></annotation>", "the text 'cat'"),
        ('<annotation><size label="puppy"/></annotation>', "attribute label='puppy' of <size>"),
        ('<annotation><size><width a="Cat"/></size></annotation>', "a='Cat' of <width>"),
        ("<annotation><source><name>cat</name></source></annotation>", "it has <name>"),
        ("<annotation><source><animal> Cat\n</animal></source></annotation>", "it has <animal>"),
        ("<annotation><owner><annotation>x</annotation></owner></annotation>", "<annotation>,"),
        ("<annotation><source><dog/></source></annotation>", "it has <dog>"),
        (f'<annotation>{DOG}<instance class="x"/></annotation>', "it has the attribute class='x'"),
        (f"<annotation>{DOG}<instance><i>puppy</i></instance></annotation>", "it has <instance>"),
        (f"<annotation>{DOG}<animal>dog</animal></annotation>", "it has <animal>"),
        (f"<annotation>{DOG}<target>puppy</target></annotation>", "it has <target>"),
        (f"<annotation>{DOG}<region><title>dog</title></region></annotation>", "it has <region>"),
        ('<annotation><object label="cat"><name>dog</name></object></annotation>', "label='cat'"),
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
def test_an_annotation_with_text_is_never_read_as_without_labels(parts):
    try:
        names = read(f"<annotation>{''.join(parts)}</annotation>")
    except ValueError:
        return
    assert names and not any(name.replace("dog", "") for name in names)
