"""What `backup` and `restore` share: files, what is shown of them, and how far they are."""
