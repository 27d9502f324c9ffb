"""What stands under a picture: model, revision, layer, head, text, and how the numbers were checked."""

from collections.abc import Sequence

from ..record import Capture

TEXT_UP_TO = 240  # letters of a text in a caption


def short(text: str, most: int) -> str:
    """The beginning of a text that is too long, with … at its end."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def entry_names(capture: Capture) -> list[str]:
    """What each entry of capture.layers is called: “layer 3”, or “cross layer 3” where there are several kinds."""
    several = len({layer.kind for layer in capture.layers}) > 1
    return [f"{layer.kind} layer {layer.layer}" if several else f"layer {layer.layer}" for layer in capture.layers]


def caption_of(
    capture: Capture, entry: int, head: int | None, notes: Sequence[str] = (), most: int = TEXT_UP_TO
) -> str:
    """Model, revision, layer, head and text in words; head None: every head. Texts are cut after `most` letters."""
    seen = f"{entry_names(capture)[entry]}, head {head}" if head is not None else "every head"
    model = f"{capture.name} (revision {capture.revision})" if capture.revision else capture.name
    parts = [f"{model}, {seen}." if model else f"{seen[0].upper()}{seen[1:]}."]
    texts = {"Text": capture.text, "Second text": capture.second_text, "Target": capture.target_text}
    parts += [f"{what}: “{short(' '.join(text.split()), most)}”." for what, text in texts.items() if text]
    if not capture.text and capture.tokens:
        parts.append(f"Tokens: {short(' '.join(capture.tokens), most)}.")
    if capture.left_out:
        parts.append(f"The text’s last {capture.left_out:,} tokens did not fit into the model.")
    return " ".join([*parts, *notes])


def checked_in_words(capture: Capture) -> str:
    """How it is known that the numbers are the model's own."""
    check = capture.check
    if check.reason:
        return f"The weights are those that the model itself returns. {check.reason}"
    return (
        "Every weight is computed from the queries and keys that the model itself used for this text. When it was "
        "loaded, weights computed so were compared with those that it returns for a test text: the largest difference "
        f"of a weight was {check.weights:.1e}, of the output {check.output:.1e} of its largest value."
    )
