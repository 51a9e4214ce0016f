"""Names on the command line that may begin with a dash.

Decided here: a word that begins with one dash is a name. Kids are base64url, so one in 64 of those
that `keys generate` makes begins so, and instances, users and ids of requests may; none of our
options does but `-h`. What begins with two dashes is an option, unless `--` stands before it. Not
decided here: what a command does with its names. Source: INTERFACE 1, RFC 7638.
"""

from __future__ import annotations

import click


class Named(click.Command):
    """A command that takes names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        valued = {
            option
            for each in self.params
            if isinstance(each, click.Option) and not each.is_flag
            for option in each.opts
        }
        options: list[str] = []
        names: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                names.extend(words)
            elif word.startswith("--") or word in ctx.help_option_names:
                options.append(word)
                if word in valued:
                    value = next(words, None)
                    if value is None:
                        return super().parse_args(ctx, [word])  # says what is missing
                    options.append(value)
            else:
                names.append(word)
        return super().parse_args(ctx, [*options, "--", *names])


class NamedGroup(click.Group):
    """A group whose commands take names."""

    command_class = Named
