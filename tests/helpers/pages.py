"""A reader of HTML pages."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "path", "use", "image", "rect"}


class Page(HTMLParser):
    """Collects what a page asks the browser for, its text, and whether its tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.requests, self.text, self.tags = [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.stack.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.requests.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
