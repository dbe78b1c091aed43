"""Commands for those who work on her2path; README.md says what each needs and makes."""
