"""From photographs of good parts to a gladd bundle."""


class TrainingError(Exception):
    """What a user can mend: says what failed, what was expected, what was found."""
