"""The road to the Transformer: models that read a word letter by letter and say it sound by sound, each as its paper
has it. All do the same task, so that what they cannot do can be compared."""
