<?php
// Tables, users and their application passwords; the passwords are printed as JSON.
$_SERVER += ['HTTP_HOST' => 'localhost', 'SERVER_PROTOCOL' => 'HTTP/1.1', 'REQUEST_METHOD' => 'GET'];
foreach (['DB_NAME', 'DB_USER', 'DB_PASSWORD', 'DB_HOST', 'WP_CONTENT_DIR'] as $name) {
    define($name, getenv($name));
}
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
define('WP_INSTALLING', true);
define('WP_SITEURL', 'http://localhost');
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTH_KEY', 'tests');
$table_prefix = 'wp_';
define('ABSPATH', '/usr/share/wordpress/');
require ABSPATH . 'wp-settings.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
add_filter('pre_wp_mail', '__return_true');
wp_install('Tests', 'root', 'root@example.org', true, '', 'a password for the page');
foreach (['sales' => ['Sales', 'editor'], 'friend' => ['Fränzi 王', 'editor'], 'reader' => ['Reader', 'subscriber'], 'boss' => ['Boss', 'administrator']] as $login => [$name, $role]) {
    $id = wp_insert_user([
        'user_login' => $login, 'user_pass' => wp_generate_password(), 'display_name' => $name,
        'user_email' => "$login@example.org", 'role' => $role,
    ]);
    [$password] = WP_Application_Passwords::create_new_application_password($id, ['name' => 'tests']);
    $made[$login] = ['id' => $id, 'password' => $password];
}
echo json_encode($made);
