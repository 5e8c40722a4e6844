"""Small programs that show the mesh at work; README.md says what each shows and how to run it."""
