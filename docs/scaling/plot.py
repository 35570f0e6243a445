"""Log-log plots as SVG, written by hand: nothing but the standard library, and the same bytes on every machine."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 84, 178, 46, 58
# Okabe and Ito's: told apart by the colour-blind as well.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555"]
FONT = "font-family='Helvetica, Arial, sans-serif'"


def power(exponent):
    """10^n as people write it."""
    small = {-4: "0.0001", -3: "0.001", -2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100", 3: "1,000", 4: "10,000"}
    return small.get(exponent) or superscript(exponent)


def superscript(exponent):
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def size(exponent):
    """10^n bytes as people write it."""
    unit, rest = divmod(exponent, 3)
    return f"{10**rest} {['B', 'KB', 'MB', 'GB', 'TB', 'PB'][unit]}"


class Plot:
    """One picture: lines over the number of accounts, and limits across."""

    def __init__(self, title, y_label, y_tick=power):
        self.title, self.y_label, self.y_tick = title, y_label, y_tick
        self.lines, self.limits = [], []

    def line(self, name, points):
        """Points (x, y), all above 0; what is not is left out."""
        self.lines.append((name, [(x, y) for x, y in points if y > 0]))

    def limit(self, name, y):
        """A dashed line across, with its meaning."""
        self.limits.append((name, y))

    def svg(self, lowest):
        """The file. Lines are cut off below `lowest`."""
        ys = [y for _, points in self.lines for _, y in points if y >= lowest] + [y for _, y in self.limits]
        xs = [x for _, points in self.lines for x, _ in points]
        x0, x1 = math.log10(min(xs)), math.log10(max(xs))
        y0, y1 = math.floor(math.log10(lowest)), math.ceil(math.log10(max(ys)))
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

        def at(x, y):
            return (LEFT + (math.log10(x) - x0) / (x1 - x0) * (right - LEFT), bottom - (math.log10(y) - y0) / (y1 - y0) * (bottom - TOP))

        out = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role='img'>"]
        out.append(f"<title>{escape(self.title)}</title><rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>")
        out.append(f"<text x='{LEFT}' y='26' {FONT} font-size='15' font-weight='bold' fill='#222222'>{escape(self.title)}</text>")
        for n in range(math.ceil(x0), math.floor(x1) + 1):
            x, _ = at(10.0**n, 10.0**y0)
            out.append(f"<line x1='{x:.1f}' y1='{TOP}' x2='{x:.1f}' y2='{bottom}' stroke='#e4e4e4'/>")
            out.append(f"<text x='{x:.1f}' y='{bottom + 19}' {FONT} font-size='12' text-anchor='middle' fill='#333333'>{superscript(n)}</text>")
        step = 1 if y1 - y0 <= 9 else 2
        for n in range(y0, y1 + 1):
            _, y = at(10.0**x0, 10.0**n)
            out.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#e4e4e4'/>")
            if (n - y0) % step == 0:
                out.append(f"<text x='{LEFT - 8}' y='{y + 4:.1f}' {FONT} font-size='12' text-anchor='end' fill='#333333'>{self.y_tick(n)}</text>")
        out.append(f"<path d='M{LEFT} {TOP}V{bottom}H{right}' fill='none' stroke='#333333'/>")
        out.append(f"<text x='{(LEFT + right) / 2:.0f}' y='{HEIGHT - 16}' {FONT} font-size='13' text-anchor='middle' fill='#222222'>accounts</text>")
        middle = (TOP + bottom) / 2
        turned = f"x='18' y='{middle:.0f}' transform='rotate(-90 18 {middle:.0f})'"
        out.append(f"<text {turned} {FONT} font-size='13' text-anchor='middle' fill='#222222'>{escape(self.y_label)}</text>")
        for name, value in self.limits:
            _, y = at(10.0**x0, value)
            out.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#222222' stroke-dasharray='5 4'/>")
            out.append(f"<text x='{LEFT + 6}' y='{y - 5:.1f}' {FONT} font-size='11' fill='#222222'>{escape(name)}</text>")
        out += self.draw(at, lowest)
        out.append("</svg>")
        return "\n".join(out) + "\n"

    def draw(self, at, lowest):
        out, labels = [], []
        for n, (name, points) in enumerate(self.lines):
            colour = COLOURS[n % len(COLOURS)]
            seen = [at(x, y) for x, y in points if y >= lowest]
            if seen:
                path = "L".join(f"{x:.1f} {y:.1f}" for x, y in seen)
                out.append(f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='2.2' stroke-linejoin='round'/>")
                whole = [at(x, y) for x, y in points if y >= lowest and math.log10(x).is_integer()]
                out += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in whole]
                labels.append([seen[-1][1], name, colour, seen[-1][1]])
        # Beside the ends of their lines, pushed apart where they would lie on each other.
        labels.sort()
        for before, label in zip(labels, labels[1:]):
            label[0] = max(label[0], before[0] + 17)
        overflow = max(0, labels[-1][0] - (HEIGHT - BOTTOM)) if labels else 0
        for label in labels:
            label[0] -= overflow
        for after, label in zip(labels[::-1], labels[::-1][1:]):
            label[0] = min(label[0], after[0] - 17)
        x = WIDTH - RIGHT
        for y, name, colour, end in labels:
            out.append(f"<path d='M{x + 5} {end:.1f}L{x + 17} {y:.1f}' stroke='{colour}' stroke-width='2.2' fill='none'/>")
            out.append(f"<text x='{x + 21}' y='{y + 4:.1f}' {FONT} font-size='12' fill='#222222'>{escape(name)}</text>")
        return out

