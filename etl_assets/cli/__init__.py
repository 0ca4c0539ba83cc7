"""The data-pipeline command. Thin: each verb calls one function."""
