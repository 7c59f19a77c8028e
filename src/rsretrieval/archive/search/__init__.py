"""Questions to an archive: what is looked for, where and when; and answers in the formats that others read."""
