"""The verb that shows how a student can be taught.

It knows nothing of what a recipe does: it prints what each says of itself.
"""

from __future__ import annotations

import argparse
import textwrap

from recdistill.commands.verb import Parser, Verb, show


def _options(parser: Parser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME|FILE", help="one recipe in full, as a file to copy and change (default: all)"
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
        purpose="List the ways in which a student can be taught, and when to take which.",
        when="For whoever wants to know what a student learns from, or to write a recipe of their own: print one into "
        "a file, change it, and name the file in loss.recipe.",
        examples=("recipes", "recipes default > mine.toml"),
        options=_options,
        run=_recipes,
        settings=False,
    ),
)
