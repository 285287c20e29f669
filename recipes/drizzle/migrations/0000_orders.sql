CREATE TABLE `orders` (
	`id` integer PRIMARY KEY NOT NULL,
	`amount` integer NOT NULL
);
