"""Text becomes tokens: vocabularies, vectorizer, the table of names and its splits."""

from npnlp.text.dataset import SplitArrays, SurnameDataset
from npnlp.text.encoding import clean_name
from npnlp.text.rows import SPLITS
from npnlp.text.table import own_table_path, read_table
from npnlp.text.vectorizer import SurnameVectorizer
from npnlp.text.vocabulary import SequenceVocabulary, Vocabulary

__all__ = [
    "SPLITS",
    "SequenceVocabulary",
    "SplitArrays",
    "SurnameDataset",
    "SurnameVectorizer",
    "Vocabulary",
    "clean_name",
    "own_table_path",
    "read_table",
]
