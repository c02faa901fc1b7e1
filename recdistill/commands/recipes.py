"""The verb `recipes`. It shows how a student can be taught.

It knows nothing of what a recipe does: it prints the text of each recipe.
"""

from __future__ import annotations

import argparse
import textwrap

from recdistill.commands.verb import Parser, Verb, show


def _options(parser: Parser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME|FILE",
        help="print this recipe in full, as a file to copy and change (default: list all)",
    )


def _recipes(args: argparse.Namespace) -> int:
    from recdistill import recipes

    if args.name is not None:
        recipe = recipes.load_recipe(args.name)
        show(args, recipes.as_data(recipe), recipes.text_of(args.name).rstrip())
        return 0
    found = {name: recipes.load_recipe(name) for name in recipes.names()}
    rows, lines = [], []
    for name, recipe in found.items():
        rows.append({"name": name, "title": recipe.title, "take": recipe.take, "leave": recipe.leave})
        lines.append(f"{name}\n    {recipe.title}")
        for word, text in (("take it:", recipe.take), ("leave it:", recipe.leave)):
            lines.append(textwrap.fill(text, 100, initial_indent=f"    {word:10}", subsequent_indent=" " * 14))
    show(args, {"recipes": rows}, "\n".join(lines))
    return 0


VERBS = (
    Verb(
        name="recipes",
        purpose="List the ways in which a student can be taught, and when to use each.",
        when="A recipe says what a student learns from. To make one of your own, print a recipe into a file, change "
        "the file, and name it in the setting loss.recipe.",
        examples=("recipes", "recipes default > mine.toml"),
        options=_options,
        run=_recipes,
        settings=False,
    ),
)
